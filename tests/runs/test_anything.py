"""Whatever JSON or YAML lies in a run's folder: a clear error or a result, never a traceback."""

import json
import math
from contextlib import suppress
from functools import cache

import pytest
from experiments import compose
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lnrnn.comparison import RecordError, compare, read_run
from lnrnn.comparison.configuration import read_configuration
from lnrnn.comparison.looks import Look, looks_with
from lnrnn.runs.checkpoint_files import manifest_of, newest_good, problem_of
from lnrnn.runs.curves import plot_curves
from lnrnn.runs.folder import check_configuration
from lnrnn.runs.lock import LOCK, locked
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.record import RunRecord
from lnrnn.study import cost, overview, plan
from lnrnn.training import ConfigurationError, RunFolder
from lnrnn.training.monitor.diagnosis import diagnose

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(st.characters(codec=None), max_size=4)  # control characters and half surrogates too
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
DEEP = "[" * 100_000
DIGITS = "1" * 5000
# A loaded machine is slow to write files, which says nothing about what is read.
patient = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=60,
)
RECORD = {
    "status": "finished",
    "data": "japanese_vowels",
    "model": "rnn",
    "seed": 0,
    "metric": "accuracy",
    "higher_is_better": True,
    "metrics": {"test/accuracy": 0.5},
}
LINE = {"step": 10, "epoch": 0, "name": "monitor/saturation/l0/i", "value": 0.5}
VALIDATION = {**LINE, "name": "val/accuracy"}
LINES = "".join(json.dumps(line) + "\n" for line in (LINE, VALIDATION))


def changed(whole):
    """Draw ``whole`` with some of its entries exchanged, or any JSON in its place, or a part."""
    keys = st.sampled_from([*whole, "unknown"])
    entries = st.dictionaries(keys, JSON, max_size=3).map(lambda more: {**whole, **more})
    text = (entries | JSON).map(json.dumps)
    return text | st.tuples(text, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]])


@cache
def ours():
    """Return a configuration; to compose one takes longer than all else here."""
    return compose("model=rnn")


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.record.write_text(json.dumps(RECORD))
    folder.metrics.write_text(LINES)
    folder.config.write_text("seed: 0\n")
    return folder


@patient
@example(text=DEEP)
@example(text=DIGITS)
@example(text='{"seed": ' + DIGITS + "}")
@given(text=changed({**RECORD, **dict.fromkeys(RunRecord.__dataclass_fields__)}))
def test_a_run_json(folder, text):
    folder.record.write_text(text)
    with suppress(ConfigurationError):
        assert isinstance(folder.read_record(), RunRecord)
    with suppress(RecordError):
        assert read_run(folder.path).folder


@patient
@given(
    inner=st.dictionaries(
        st.sampled_from(
            ["machine", "versions", "initial_parameters", "metrics", "overrides", "resumed"]
        ),
        st.dictionaries(st.sampled_from(["threads", "cpu", "test/accuracy"]), JSON)
        | st.lists(JSON, max_size=2),
        max_size=3,
    )
)
def test_a_comparison_of_a_run_whose_entries_hold_anything(folder, inner):
    folder.record.write_text(json.dumps({**RECORD, **inner}))
    problem = ""
    try:
        json.dumps(compare({"a": [folder.path], "b": [folder.path]}), allow_nan=False)
    except ValueError as error:
        problem = str(error)
    assert not problem or "needs at least one run that can be read" in problem


@patient
@example(text=DEEP)
@example(text=LINES + DIGITS + "\n")
@example(text=LINES.replace("{", "\x00"))
@given(
    text=st.lists(changed(LINE), max_size=3).map("\n".join) | changed(VALIDATION).map("{}\n".format)
)
def test_a_metrics_jsonl(folder, text):
    folder.metrics.write_text(text, errors="surrogatepass")
    for read in (read_metrics, lambda path: diagnose(path, None)):
        with suppress(RecordError):
            assert read(folder.metrics) is not None
    with suppress(RecordError):
        read_run(folder.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "folder_of", lambda _: folder)
        assert 0 <= overview.share_done(ours()) < 1


@pytest.mark.parametrize("garbled", [b"\xff\xfe\x00", b'{"step": 1}\n', b"[]\n", b'{"step": 1'])
def test_curves_of_garbled_metrics_name_the_file(folder, garbled):
    folder.metrics.write_bytes(LINES.encode() + garbled)
    with pytest.raises(RecordError, match=r"metrics\.jsonl"):
        plot_curves(folder.metrics, folder.curves)
    assert not folder.curves.exists()


@patient
@example(text=DEEP)
@given(text=changed({"file": "step-00000001.ckpt", "sha256": "0", "bytes": 1, "step": 1}))
def test_a_manifest(folder, text):
    folder.checkpoints.mkdir(exist_ok=True)
    path = folder.checkpoints / "step-00000001.ckpt"
    path.write_bytes(b"x")
    manifest_of(path).write_text(text)
    assert problem_of(path)
    assert newest_good(folder.checkpoints)[0] is None


@patient
@example(text=DEEP)
@example(text=json.dumps({"pid": 10**30, "host": "me", "started": None}))
@given(text=changed({"pid": 1, "host": "me", "started": "x", "job": None}))
def test_a_lock(folder, text):
    (folder.path / LOCK).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "me")
        with suppress(ConfigurationError), locked(folder.path):
            assert (folder.path / LOCK).exists()


@patient
@example(text=DEEP)
@given(text=changed({"seeds": [0, 1], "arms": []}))
def test_an_earlier_comparison(folder, text):
    (folder.path / "compare.json").write_text(text)
    looks_with(plan.looks_before(folder.path), Look(7))


ARM = {
    "name": "a",
    "parameters": 5,
    "seconds_per_step": 0.1,
    "quartiles": [0.1, 0.1],
    "ratio": None,
    "ratio_quartiles": None,
    "peak_memory": None,
    "items_per_second": 5.0,
    "unit": "sequences",
}


@patient
@given(arm=changed(ARM), rounds=JSON)
def test_a_cost(folder, arm, rounds):
    """It is taken if it can be shown, and otherwise not there."""
    whole = {"machine": {}, "rounds": 4, "threads": 1, "arms": [ARM]}
    assert cost._is_cost(whole, {"a": {}})
    with suppress(ValueError):
        arm = json.loads(arm)
        found = {**whole, "arms": [arm], "rounds": rounds}
        if cost._is_cost(found, {"a": {}}):
            assert math.isfinite(arm["seconds_per_step"] * 0)
            assert isinstance(rounds, int)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "x",
        "3",
        "a: ${a}\n",
        "a: ${b}\nb: ${a}\n",
        "a: ${nowhere}\n",
        "a: ${",
        "a: [",
        "a: \x07\n",
        "a: &a [*a]\n",
        "? [1, 2]\n: 3\n",
        "a: 2020-01-01\n",
        "[" * 5000,
        "a: " + "[" * 5000 + "]" * 5000,
        "a: !!python/name:os.system\n",
        "1: 2\n",
        "a: " + "1" * 5000,
    ],
)
def test_a_config_yaml(folder, text):
    folder.config.write_text(text)
    with suppress(ConfigurationError):
        folder.read_config()
    with pytest.raises(ConfigurationError, match=r"config\.yaml|another configuration"):
        check_configuration(folder, ours().config)
    with suppress(RecordError):
        json.dumps(read_configuration(folder.path), allow_nan=False)


@patient
@given(text=changed({"seed": 0, "model": {"eps": 1e-5}}))
def test_a_config_yaml_of_any_json(folder, text):
    folder.config.write_text(text)
    with pytest.raises(ConfigurationError):
        check_configuration(folder, ours().config)
    with suppress(RecordError):
        read_configuration(folder.path)
