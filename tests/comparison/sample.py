"""A whole comparison of invented runs: three arms, tuned, timed and monitored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lnrnn.comparison import Run, Unreadable, compare

ARMS = ("lstm", "lstm_ln", "lstm_lncell")
SPEED = {"lstm": 900.0, "lstm_ln": 420.0, "lstm_lncell": 640.0}  # steps to 63 % of the way
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
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
        diagnosis=DIAGNOSES[place % 3] if monitor else None,
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


DIAGNOSES = (
    "the gradient vanishes: 64 steps back 1e-6 of it is left",
    "healthy",
    "the variance before norm cell is near eps in 20 % of the rows: try eps=1e-7",
)

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


def sample_tuning(arms: Sequence[str] = ARMS) -> dict[str, dict[float, list[Run]]]:
    """Return tuning runs: each arm bears higher rates than the one before, the last rate breaks."""
    return {
        arm: {rate: [_tuned(arm, place, rate, seed) for seed in (1000, 1001)] for rate in RATES}
        for place, arm in enumerate(arms)
    }


def _tuned(arm: str, place: int, rate: float, seed: int) -> Run:
    random = np.random.default_rng([place, seed, round(1e4 * rate)])
    run = _run(arm, place, seed, points=4, monitor=False)
    if rate == RATES[-1] and seed - 1000 < 2 - place:
        return replace(run, status="failed", error="the loss is nan", metrics={}, curves={})
    away = np.log10(rate / RATES[1]) - 0.3 * place
    loss = 0.3 - 0.04 * place + 0.2 * away**2 + random.normal(0, 0.01)
    return replace(run, curves={"val/loss": ((100, 1.2), (200, float(loss)))})


def sample_result(
    runs: Mapping[str, Sequence[Run | Unreadable]] | None = None, *, whole: bool = True
) -> dict[str, Any]:
    """Return the comparison of runs, with cost and tuning if it is to be whole."""
    runs = sample_runs() if runs is None else runs
    if not whole:
        return compare(runs)
    return compare(runs, cost=COST, tuning=sample_tuning())
