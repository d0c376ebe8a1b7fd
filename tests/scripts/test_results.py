"""Experiments are comparisons that compose, and their tables say what compare.json says."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.sample import sample_result, sample_runs

from lnrnn.study.plan import compared_runs
from lnrnn.study.settings import read_settings

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = sorted(path.stem for path in (SCRIPTS.parent / "experiments").glob("*.yaml"))


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import results  # pyright: ignore[reportMissingImports]

    return results


@pytest.mark.parametrize("name", NAMES)
def test_every_comparison_can_be_made_and_is_written_down(name, results, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    experiment = results.load(name)
    assert set(experiment) == {"question", "written", "choices", "comparisons"}
    for comparison in experiment["comparisons"]:
        settings = read_settings(results.arguments_of(comparison))
        fewer = replace(settings, seeds=1, splits=min(settings.splits, 3))
        assert len(compared_runs(fewer, {})) == len(settings.arms)


def test_a_table_has_what_the_result_has(results):
    result = sample_result(sample_runs(monitor=False))
    head, rule, *rows = results.table(result).splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|") == 11
    for row, arm, pair in zip(rows, result["arms"], [None, *result["pairs"]], strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == f"`{arm['name']}`"
        assert f"{arm['mean']:.4f}" in cells[2]
        if pair is None:
            assert cells[3] == cells[8] == ""
            continue
        low, high = pair["interval"]
        assert cells[2].startswith("**") == pair["supported"]
        assert cells[3] == f"{pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        assert cells[4] == f"{pair['p_holm']:.4f}"
        assert f"{pair['speed'][2]['steps']['ratio']:.2f}" in cells[8]


def test_an_unknown_experiment_is_refused_with_the_list(results):
    with pytest.raises(SystemExit, match=r"there is no experiment nothing\. There are: .*rates"):
        results.load("nothing")


def test_a_title_chooses_a_comparison_and_an_unknown_one_is_refused(results, monkeypatch):
    ran = []
    monkeypatch.setattr(results, "run", lambda comparison: ran.append(comparison["title"]))
    monkeypatch.setattr(sys, "argv", ["results.py", "sizes", "--only", "2 layers"])
    results.main()
    assert ran == ["2 layers"]
    monkeypatch.setattr(sys, "argv", ["results.py", "sizes", "--only", "9 layers"])
    with pytest.raises(SystemExit, match=r"no comparison 9 layers\. There are: .*; 1 layer; "):
        results.main()
    monkeypatch.setattr(sys, "argv", ["results.py", "sizes", "rates", "--only", "1 layer"])
    with pytest.raises(SystemExit, match="2"):
        results.main()


def test_without_a_name_it_says_which_there_are(results, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["results.py"])
    results.main()
    assert all(f"\n{name}: " in capsys.readouterr().out for name in NAMES[:1])
