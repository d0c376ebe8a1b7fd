"""Run folders as training writes them, with numbers chosen by a test."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest


class RunWriter:
    """Writes run folders below one folder and returns their paths."""

    def __init__(self, root: Path):
        self.root = root

    def __call__(
        self,
        arm: str,
        seed: int,
        *,
        value: float | None = 0.9,
        curve: Sequence[float] = (0.5, 0.7, 0.8),
        metric: str = "accuracy",
        **changes: object,
    ) -> Path:
        """Write one finished run; ``changes`` replace entries of ``run.json``."""
        folder = self.root / arm / f"seed{seed}"
        folder.mkdir(parents=True)
        record = {
            "status": "finished",
            "data": "japanese_vowels",
            "model": arm,
            "name": None,
            "seed": seed,
            "overrides": [f"model={arm}", f"seed={seed}"],
            "metric": metric,
            "higher_is_better": True,
            "parameters": 4937,
            "seconds_per_step": 0.001 * (seed + 1),
            "steps": 30,
            "metrics": {} if value is None else {f"test/{metric}": value, "test/loss": 0.2},
            "versions": {"torch": "2.13.0"},
            "commit": "abc",
            "machine": {"cpu": "some", "threads": 2, "device": "cpu"},
            "data_fingerprint": "f00d",
            "initial_parameters": {"head.weight": f"hash{seed}"},
        }
        (folder / "run.json").write_text(json.dumps({**record, **changes}))
        points = [
            {"step": 10 * epoch, "epoch": epoch - 1, "name": f"val/{metric}", "value": value}
            for epoch, value in enumerate(curve, start=1)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points))
        (folder / "config.yaml").write_text(
            f"model:\n  cell: {arm}\n  eps: 1.0e-05\ndata:\n  seed: {seed}\nseed: {seed}\n"
        )
        return folder

    def arm(self, arm: str, values: Sequence[float], gain: float = 0.0) -> list[Path]:
        """Write one run a value, seeds from 0; ``gain`` lifts the curves."""
        noise = np.random.default_rng(len(values)).normal(0, 0.01, (len(values), 3))
        curves = np.array([0.5, 0.7, 0.8]) + gain + noise  # (seeds, 3)
        return [
            self(arm, seed, value=value, curve=curve.tolist())
            for seed, (value, curve) in enumerate(zip(values, curves, strict=True))
        ]


@pytest.fixture
def write_run(tmp_path) -> RunWriter:
    return RunWriter(tmp_path / "runs")
