import pytest

from lnrnn.comparison import RecordError, Run, read_runs
from lnrnn.comparison.configuration import describe_configuration, read_configuration


def read(folders):
    return [run for run in read_runs(folders) if isinstance(run, Run)]


def test_a_configuration_is_flat_and_as_json_can_hold_it(write_run, monkeypatch):
    folder = write_run("rnn", 0)
    monkeypatch.setenv("SECRET", "told")
    (folder / "config.yaml").write_text(
        "model: {eps: 1.0e-05, norm: null, sizes: [1, 2], empty: {}}\n"
        "limit: .inf\nday: 2026-01-02\nleak: ${oc.env:SECRET}\n"
    )
    assert read_configuration(folder) == {
        "model.eps": 1e-5,
        "model.norm": None,
        "model.sizes": [1, 2],
        "model.empty": {},
        "limit": "inf",
        "day": "2026-01-02",
        "leak": "${oc.env:SECRET}",
    }


@pytest.mark.parametrize("text", ["a: [1", "- 1\n", "3", "a: ${"])
def test_what_is_no_configuration_is_named(write_run, text):
    folder = write_run("rnn", 0)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(RecordError, match=r"config\.yaml"):
        read_configuration(folder)


def test_differences_are_those_from_the_baseline_without_seed_and_name(write_run):
    arms = {"a": [write_run("a", 0), write_run("a", 1)], "b": [write_run("b", 0)]}
    for folder in (*arms["a"], *arms["b"]):
        with (folder / "config.yaml").open("a") as file:
            file.write(f"name: {folder.parent.name}\nresume: auto\n")
    with (arms["b"][0] / "config.yaml").open("a") as file:
        file.write("norm: null\n")
    found, warnings = describe_configuration({name: read(runs) for name, runs in arms.items()})
    assert found["configuration_differences"] == [
        {"arm": "b", "baseline_value": "a", "key": "model.cell", "value": "b"},
        {"arm": "b", "baseline_value": None, "key": "norm", "value": None},
    ]
    assert warnings == []


def test_what_is_shared_is_the_same_in_every_run(write_run):
    arms = {"a": [write_run("a", 0), write_run("a", 1)], "b": [write_run("b", 0)]}
    for number, folder in enumerate((*arms["a"], *arms["b"])):
        with (folder / "config.yaml").open("a") as file:
            file.write(f"trainer: {{max_epochs: 5}}\nlimit: {number % 2}\n")
    read_arms = {name: read(runs) for name, runs in arms.items()}
    found, _ = describe_configuration(read_arms)
    assert found["shared_configuration"]["trainer.max_epochs"] == 5
    assert not {"limit", "model.cell", "seed"} & set(found["shared_configuration"])
    (arms["a"][1] / "config.yaml").unlink()  # which may have been different
    assert describe_configuration(read_arms)[0]["shared_configuration"] == {}


def test_runs_of_one_arm_that_differ_and_runs_without_a_file_are_named(write_run):
    runs = [write_run("a", seed) for seed in range(3)]
    (runs[1] / "config.yaml").write_text("model: {cell: a, eps: 0.1}\nseed: 1\n")
    (runs[2] / "config.yaml").unlink()
    found, warnings = describe_configuration({"a": read(runs), "b": []})
    assert found["configuration_differences"] == []
    assert warnings[0].startswith("a: the configuration of 1 of 3 runs is unknown: ")
    assert warnings[1] == "a: its runs differ in settings: model.eps"


def test_without_the_baselines_configuration_nothing_is_compared(write_run):
    arms = {"a": [write_run("a", 0)], "b": [write_run("b", 0)]}
    (arms["a"][0] / "config.yaml").unlink()
    found, (text,) = describe_configuration({name: read(runs) for name, runs in arms.items()})
    assert found["configuration_differences"] == []
    assert text.startswith("a: the configuration of 1 of 1 runs is unknown")
