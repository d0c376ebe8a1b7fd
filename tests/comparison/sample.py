"""A whole comparison with invented numbers: three arms, tuned, timed and monitored."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lnrnn.comparison import Run, compare

ARMS = ("lstm", "lstm_ln", "lstm_lncell")
SPEED = {"lstm": 900.0, "lstm_ln": 420.0, "lstm_lncell": 640.0}  # steps to 63 % of the way
LAGS = (1, 2, 4, 8, 16, 32, 64)


def sample_runs(
    arms: Sequence[str] = ARMS, seeds: int = 10, points: int = 40, monitor: bool = True
) -> dict[str, list[Run]]:
    """Return runs whose validation curves rise at the speed of their arm."""
    return {
        arm: [_run(arm, place, seed, points, monitor) for seed in range(seeds)]
        for place, arm in enumerate(arms)
    }


def _run(arm: str, place: int, seed: int, points: int, monitor: bool) -> Run:
    random = np.random.default_rng([place, seed])
    steps = np.arange(1, points + 1) * 100
    speed = SPEED.get(arm, 700.0) * random.lognormal(0, 0.12)
    top = 0.9 + 0.02 * place + random.normal(0, 0.01)
    curve = top - 0.75 * np.exp(-steps / speed) + random.normal(0, 0.006, points)
    curves = {"val/accuracy": _curve(steps, curve)}
    if monitor:
        curves |= _monitor_curves(random, place, steps[::4])
    return Run(
        folder=f"runs/mnist1d/{arm}/seed{seed}",
        status="finished",
        data="mnist1d",
        model=arm,
        seed=seed,
        metric="accuracy",
        higher_is_better=True,
        overrides=(f"model={arm}", f"seed={seed}", "trainer.max_epochs=40"),
        parameters=17674 + 512 * place,
        seconds_per_step=0.004 + 0.001 * place,
        metrics={"test/accuracy": float(top - 0.01), "test/loss": 0.3},
        versions={"torch": "2.13.0", "lnrnn": "0.1.0"},
        commit="9dfbb54e1c2d",
        machine={"cpu": "a processor", "threads": 1, "device": "cpu"},
        data_fingerprint="f00dfeed",
        initial_parameters={"head.weight": f"hash{seed}"},
        curves=curves,
    )


def _curve(steps, values) -> tuple[tuple[int, float], ...]:
    return tuple((int(step), float(value)) for step, value in zip(steps, values, strict=True))


def _monitor_curves(random, place: int, steps) -> dict[str, tuple[tuple[int, float], ...]]:
    """Return what a monitor writes; the first arm's gradient vanishes, the others' less so."""
    done = steps / steps[-1]
    noise = random.lognormal(0, 0.1, len(steps))
    decay = (0.80, 0.95, 0.99)[place % 3]
    values = {
        f"state_gradient/l0/lag{lag}": 0.1 * decay ** (lag * (1 - 0.5 * done)) * noise
        for lag in LAGS
    }
    values["recurrent_gradient/l0"] = 0.5 * np.exp(-2 * done) * noise
    for gate, level in zip("ifgo", (0.2, 0.5, 0.3, 0.1), strict=True):
        values[f"saturation/l0/{gate}"] = level * done / (1 + place)
    for norm in ("ih", "hh", "cell")[: 3 * (place > 1)]:
        values[f"variance/l0/{norm}"] = (0.01 + done) * noise
        values[f"near_eps/l0/{norm}"] = 0.2 * np.exp(-9 * done) * (norm == "cell")
        values[f"gain_drift/l0/{norm}"] = 0.3 * done
        values[f"shift_drift/l0/{norm}"] = 0.1 * done
    values["state_norm/l0"] = 0.3 + 0.2 * done
    values["clipped"] = np.clip(0.6 - done, 0, 1)
    return {f"monitor/{name}": _curve(steps, value) for name, value in values.items()}


COST: dict[str, Any] = {
    "machine": {"cpu": "a processor", "threads": 1, "device": "cpu"},
    "rounds": 40,
    "threads": 1,
    "arms": [
        {
            "name": arm,
            "parameters": 17674 + 512 * place,
            "seconds_per_step": 0.0041 * (1 + 0.31 * place),
            "quartiles": [0.0040 * (1 + 0.31 * place), 0.0043 * (1 + 0.31 * place)],
            "ratio": None if place == 0 else 1 + 0.31 * place,
            "ratio_quartiles": None if place == 0 else [0.97 + 0.31 * place, 1.04 + 0.31 * place],
            "peak_memory": 3_400_000 + 410_000 * place,
            "items_per_second": 24390.2 / (1 + 0.31 * place),
            "unit": "sequences",
        }
        for place, arm in enumerate(ARMS)
    ],
}
