"""Two processes with the monitor: none waits for the other, and the first one alone writes."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from experiments import compose, only

from lnrnn.training import train

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "model=lstm_lncell",
    "model.hidden_size=8",
    "trainer.max_epochs=-1",
    "trainer.max_steps=52",
    "monitor=true",
)


def samples(metrics: Path) -> dict[tuple[int, str], float]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    keys = Counter((line["step"], line["name"]) for line in lines)
    assert max(keys.values()) == 1
    found = {(line["step"], line["name"]): line["value"] for line in lines}
    return {key: value for key, value in found.items() if key[1].startswith("monitor/")}


def test_two_processes_are_monitored_as_one(tmp_path):
    one = samples(train(compose(*RUN), tmp_path / "one")[0].metrics)
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    finished = subprocess.run(
        [
            *(sys.executable, *command, str(ROOT / "scripts" / "train.py")),
            *("trainer=ddp", "trainer.accelerator=cpu", *RUN),
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    two = samples(only((tmp_path / "runs").rglob("metrics.jsonl")))
    assert two.keys() == one.keys()
    assert {step for step, _ in one} == {0, 50}
    name = "monitor/recurrent_gradient/l0"  # later steps part by rounding
    assert two[0, name] == pytest.approx(one[0, name], rel=1e-4)
