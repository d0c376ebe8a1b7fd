"""A comparison on a Ray cluster of two nodes; `make test-ray` installs Ray beside .venv for it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import compare_process
import pytest
from comparison_results import result_in
from same_runs import assert_same_run

from lnrnn.training import RunFolder

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="make test-ray")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
COMMAND = (
    *("arms=[rnn,rnn_ln]", "seeds=1", "cost=false", "model.hidden_size=8"),
    *("trainer.max_epochs=60", "trainer.log_every_n_steps=5", "checkpoint_every_n_steps=30"),
)
RUNS = [f"{arm}-hidden_size-8-log_every_n_steps-5-max_epochs-60" for arm in ("rnn", "rnn_ln")]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes with one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False}
    )
    cluster.add_node(**node)
    yield cluster.address
    cluster.shutdown()


def begin(place: Path, *words: str) -> subprocess.Popen[str]:
    return compare_process.begin(place, *COMMAND, *words)


def runs_in(place: Path) -> list[RunFolder]:
    return [RunFolder(place / "runs" / "japanese_vowels" / name / "seed0") for name in RUNS]


def test_tasks_of_two_nodes_make_the_result_of_one_process(address, tmp_path):
    """They are interrupted on the way, at which they save."""
    words = ("launcher=ray", "launcher.workers=2", f"launcher.address={address}")
    first = begin(tmp_path / "ray", *words)
    deadline = time.monotonic() + 200
    while not any(
        run.newest_checkpoint() for run in runs_in(tmp_path / "ray") if run.checkpoints.exists()
    ):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=200)[0]
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "the workers have saved their runs and ended" in said, said
    states = {run.read_record().status for run in runs_in(tmp_path / "ray") if run.path.exists()}
    assert "interrupted" in states
    assert states <= {"interrupted", "finished"}
    assert not list(tmp_path.rglob("run.lock"))

    second, alone = begin(tmp_path / "ray", *words), begin(tmp_path / "alone")
    for process in (second, alone):
        said = process.communicate(timeout=280)[0]
        assert process.returncode == 0, said
    assert result_in(tmp_path / "ray") == result_in(tmp_path / "alone")
    for run, other in zip(runs_in(tmp_path / "ray"), runs_in(tmp_path / "alone"), strict=True):
        assert_same_run(run, other)


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    process = begin(tmp_path, "launcher=ray", "launcher.address=127.0.0.1:1")
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 2, said
    assert "there is no Ray cluster at launcher.address=127.0.0.1:1" in said
    assert "ray start --head" in said
