import pytest

from lnrnn.comparison.records import Run
from lnrnn.comparison.targets import steps_to_target


def make_run(seed, values, *, metric="accuracy", higher=True, status="finished"):
    curve = tuple((10 * place, value) for place, value in enumerate(values, start=1))
    return Run(
        folder=f"seed{seed}",
        status=status,
        data="d",
        model="m",
        seed=seed,
        metric=metric,
        higher_is_better=higher,
        curves={f"val/{metric}": curve},
    )


def test_targets_lie_on_the_way_of_the_baselines_median_curve():
    base = [make_run(seed, (0.0 + seed, 5.0 + seed, 10.0 + seed, 9.0)) for seed in (0, 1, 2)]
    arm = [make_run(0, (6.5, 11.0)), make_run(1, (2.0, 8.6)), make_run(2, (1.0, 2.0))]
    targets = steps_to_target({"base": base, "arm": arm})
    # median curve 1, 6, 11, 9: from 1 to 11
    assert [target["target"] for target in targets] == pytest.approx([6.0, 8.5, 10.0, 11.0])
    assert [target["share"] for target in targets] == [0.5, 0.75, 0.9, 1.0]
    assert [run["step"] for run in targets[0]["arms"][0]["runs"]] == [30, 20, 20]
    first, second, third, best = (target["arms"][1] for target in targets)
    assert [run["step"] for run in first["runs"]] == [10, 20, None]
    assert (first["reached"], first["median"]) == (2, 20)
    assert [run["step"] for run in second["runs"]] == [20, 20, None]
    assert (third["reached"], third["median"]) == (1, None)  # half of them never arrive
    assert (best["reached"], best["seconds"]) == (1, None)


def test_lower_is_better_goes_down():
    run = make_run(0, (3.0, 2.0, 1.0), metric="bits_per_character", higher=False)
    targets = steps_to_target({"base": [run]})
    assert [target["target"] for target in targets] == pytest.approx([2.0, 1.5, 1.2, 1.0])
    assert [target["arms"][0]["runs"][0]["step"] for target in targets] == [20, 30, 30, 30]


def test_without_progress_or_a_finished_baseline_there_is_no_target():
    assert steps_to_target({"base": [make_run(0, (1.0, 1.0))]}) == []
    assert steps_to_target({"base": [make_run(0, (1.0, 2.0), status="failed")]}) == []
    assert steps_to_target({"base": []}) == []
