import json
import math
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lnrnn.runs.record import RecordError, RunRecord, read_record, write_record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
# A loaded machine is slow to write files, which says nothing about records.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = [name for name in RunRecord.__dataclass_fields__ if name != "unknown"]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path):
    record = RunRecord(
        status="finished",
        seed=3,
        metrics={"test/loss": 0.5, "test/accuracy": math.inf},
        versions={"torch": "2.13.0"},
        resumed=[{"checkpoint": "step-00000005.ckpt"}],
        unknown={"later": [1, 2]},
    )
    write_record(tmp_path / "run.json", record)
    assert read_record(tmp_path / "run.json") == record


def test_what_has_not_happened_is_not_in_the_file(tmp_path):
    write_record(tmp_path / "run.json", RunRecord(status="running"))
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["commit"] is None
    later = {"steps", "metrics", "diagnosis", "error", "diverged", "signal", "exit_code"}
    assert not later & content.keys()


def test_null_among_the_metrics_is_nan(tmp_path):
    path = write(tmp_path / "run.json", {"metrics": {"test/loss": None}})
    assert math.isnan(read_record(path).metrics["test/loss"])


@pytest.mark.parametrize(
    ("content", "diverged"),
    [
        ({"status": "failed", "error": "NonFiniteError: step 3: the loss"}, True),
        ({"status": "failed", "error": "OSError: no NonFiniteError: of ours"}, False),
        ({"status": "failed", "error": "NonFiniteError: x", "diverged": False}, False),
        ({"status": "failed", "error": "in other words", "diverged": True}, True),
        ({"status": "finished"}, False),
    ],
)
def test_a_record_without_the_key_tells_a_divergence_by_its_error(tmp_path, content, diverged):
    assert read_record(write(tmp_path / "run.json", content)).has_diverged is diverged


@pytest.mark.parametrize(
    "content", [[], None, "x", 3, {"seed": True}, {"seed": "1"}, {"status": "done"}]
)
def test_what_no_run_writes_is_refused_with_the_name_of_the_file(tmp_path, content):
    path = write(tmp_path / "run.json", content)
    with pytest.raises(RecordError, match=r"run\.json"):
        read_record(path)


@patient
@given(content=JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_any_json_is_a_record_or_refused(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("record") / "run.json", content)
    known = None
    with suppress(RecordError):
        known = read_record(path)
    if known is None:
        with pytest.raises(RecordError, match=r"run\.json"):
            read_record(path)
    else:
        assert isinstance(known, RunRecord)


@patient
@given(length=st.integers(0, 200))
def test_a_record_that_was_cut_short_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("record") / "run.json"
    write_record(path, RunRecord(status="finished", seed=1))
    text = path.read_text()
    path.write_text(text[: min(length, len(text) - 3)])
    with pytest.raises(RecordError, match="cut short"):
        read_record(path)
