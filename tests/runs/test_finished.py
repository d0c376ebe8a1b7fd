import pytest
from experiments import compose

from lnrnn.runs import finished
from lnrnn.runs.finished import OWN_DATA, finished_result, has_the_same_data
from lnrnn.runs.machine import installed_versions
from lnrnn.runs.record import RunRecord
from lnrnn.training import ConfigurationError, folder_of

SMALL = ("model.hidden_size=8", "trainer.max_epochs=1")
VERSIONS = installed_versions()


@pytest.fixture(autouse=True)
def known_commit(monkeypatch):
    monkeypatch.setattr(finished, "current_commit", lambda: "0123")


def write(experiment, root, **entries):
    folder = folder_of(experiment, root)
    folder.path.mkdir(parents=True)
    record = RunRecord(status="finished", versions=VERSIONS, commit="0123")
    folder.write_record(record)
    folder.update_record(**entries)
    return folder


def test_the_result_of_a_finished_run_is_found(tmp_path):
    experiment = compose(*SMALL)
    assert finished_result(experiment, tmp_path) is None
    folder = write(experiment, tmp_path)
    assert finished_result(experiment, tmp_path) == (folder, folder.read_record())


@pytest.mark.parametrize("entries", [{"status": "interrupted"}, {"commit": "4567"}])
def test_a_run_that_may_have_to_be_trained_has_no_result_yet(tmp_path, entries):
    experiment = compose(*SMALL)
    write(experiment, tmp_path, **entries)
    assert finished_result(experiment, tmp_path) is None


def test_resume_never_is_left_to_training(tmp_path):
    experiment = compose(*SMALL, "resume=never")
    write(experiment, tmp_path)
    assert finished_result(experiment, tmp_path) is None


def test_a_run_with_another_configuration_is_refused(tmp_path):
    experiment = compose(*SMALL)
    folder = write(experiment, tmp_path)
    folder.config.write_text("seed: 0\n")
    with pytest.raises(ConfigurationError, match="another configuration"):
        finished_result(experiment, tmp_path)


@pytest.mark.parametrize(
    ("data", "versions", "commit", "same"),
    [
        ("mnist1d", VERSIONS, "0123", True),
        ("mnist1d", {**VERSIONS, "lnrnn": "0.0.1"}, "0123", False),
        ("mnist1d", {}, "0123", False),
        ("mnist1d", VERSIONS, None, False),
        ("table_files data.files=t.csv data.num_classes=2", VERSIONS, "0123", False),
    ],
)
def test_data_of_the_same_version_of_the_package_need_no_look(data, versions, commit, same):
    config = compose(*f"data={data}".split()).config
    record = RunRecord(status="finished", versions=versions, commit=commit)
    assert has_the_same_data(record, config) is same


def test_files_that_differ_from_the_commit_prove_nothing(monkeypatch):
    monkeypatch.setattr(finished, "current_commit", lambda: "0123+")
    record = RunRecord(status="finished", versions=VERSIONS, commit="0123+")
    assert not has_the_same_data(record, compose(*SMALL).config)


def test_the_data_of_the_package_are_those_without_a_source_outside():
    chosen = {compose(f"data={name.rpartition('.')[2]}").config.data._target_ for name in OWN_DATA}
    assert chosen == set(OWN_DATA)
