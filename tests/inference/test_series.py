"""Models of tables in which a row is a step: forecasts, numbers at every step, missing values."""

import numpy as np
import pytest
import torch

import lnrnn
from lnrnn.data import sunspots, table_files
from lnrnn.data.sequences import Sequences
from lnrnn.data.windows import Windows
from lnrnn.inference.inputs import to_steps
from lnrnn.preparation import Preparation
from lnrnn.training import evaluate

SHARED = ("data.batch_size=8", "data.group_by=id", "data.input_columns=[a,b]")


def test_forecasts_are_in_the_units_of_the_data(made):
    folder = made("data=sunspots", "data.window=24", "data.horizon=3", "data.length=24")
    test = sunspots(window=24, horizon=3, length=24, standardize=False).splits["test"]
    assert isinstance(test, Windows)
    batch = test[list(range(len(test)))]
    predictions = lnrnn.load(folder.path).predict(batch.inputs.numpy())
    values = torch.tensor(predictions.values)
    assert values.shape == batch.targets.shape == (len(test), 3)
    mse = float((values - batch.targets).square().mean())
    assert mse == pytest.approx(folder.read_record().metrics["test/mse"], rel=1e-4)
    assert values.mean() > 10  # sunspots, and not standard deviations


@pytest.mark.parametrize("steps", [4, 5, 50])
def test_windows_are_as_long_as_in_training(steps):
    known = Preparation("regression", 1, None, None, None, window=5, horizon=2)
    sequence = np.ones((steps, 1))
    if steps == 5:
        assert to_steps(sequence, known, "sequence 0").shape == (5, 1)
        return
    with pytest.raises(ValueError, match=f"sequence 0: .*windows of 5 steps .*got {steps}"):
        to_steps(sequence, known, "sequence 0")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """30 series of 5 to 8 steps; one of two features is often missing, the label is a word."""
    rng = np.random.default_rng(0)
    rows = ["id,a,b,level,kind"]
    for series in range(30):
        for step in range(5 + series % 4):
            a, b = rng.normal(50, 9), rng.normal(-3, 2)
            missing = "" if (series + step) % 3 == 0 else f"{b:.3f}"
            rows.append(f"{series},{a:.3f},{missing},{a * 2:.3f},{('ill', 'well')[series % 2]}")
    path = tmp_path_factory.mktemp("table") / "steps.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_missing_values_are_masked_as_in_training_and_classes_have_their_names(made, table):
    masked = ("data.missing=mask", "data.num_features=4", "data.num_tokens=null")
    own = ("data.target_column=kind", "data.num_classes=2", f"data.files={table}")
    folder = made("data=table_files", *SHARED, *masked, *own, "name=masked")
    model = lnrnn.load(folder.path)
    sequences, kinds = [], []
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    for series in range(30):
        own_lines = [line for line in lines if line[0] == str(series)]
        sequences.append([[float(a), float(b or "nan")] for _, a, b, *_ in own_lines])
        kinds.append(own_lines[0][-1])
    predictions = model.predict(sequences)
    assert predictions.classes == ("ill", "well")
    raw = table_files(
        files=str(table),
        group_by="id",
        input_columns=["a", "b"],
        missing="mask",
        target_column="kind",
        num_classes=2,
        num_features=4,
        num_tokens=None,
        standardize=False,
        batch_size=8,
        num_workers=0,
    ).splits["test"]
    assert isinstance(raw, Sequences)
    # The same rows of the test, told by their values, get what training's own test says of them.
    right = [label == kind for label, kind in zip(predictions.labels, kinds, strict=True)]
    first = {round(1000 * sequence[0][0]): place for place, sequence in enumerate(sequences)}
    starts = (raw.ends - raw.lengths).tolist()
    places = [first[round(1000 * float(raw.values[start, 0]))] for start in starts]
    recorded = folder.read_record().metrics["test/accuracy"]
    assert np.mean([right[place] for place in places]) == pytest.approx(recorded, abs=1e-6)
    with pytest.raises(ValueError, match="values must be finite"):
        model.predict([[[1.0, float("inf")]]])


def test_other_rows_with_missing_values_are_tested_as_the_runs_own(made, table, tmp_path):
    masked = ("data.missing=mask", "data.num_features=4", "data.num_tokens=null")
    own = ("data.target_column=level", f"data.files={table}", "data.per_step=true")
    folder = made("data=table_regression", *SHARED, *masked, *own, "name=levels",
                  "head.pooling=none")  # fmt: skip
    other = tmp_path / "other.csv"
    head, *rows = table.read_text().splitlines()
    other.write_text("\n".join([head, *(f"other {row}" for row in rows)]) + "\n")
    found = evaluate(folder.path, data={"files": str(other)})
    model = lnrnn.load(folder.path)
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    errors = []
    for series in range(30):
        own_lines = [line for line in lines if line[0] == str(series)]
        steps = [[float(a), float(b or "nan")] for _, a, b, *_ in own_lines]
        (values,) = model.predict([steps]).values
        errors += [value - float(line[3]) for value, line in zip(values, own_lines, strict=True)]
    assert found.metrics["test/mse"] == pytest.approx(np.mean(np.square(errors)), rel=1e-4)
