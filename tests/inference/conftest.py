"""A small trained run of each kind."""

from collections.abc import Callable

import pytest
from experiments import compose

from lnrnn.training import RunFolder, train

SHORT = ("trainer.max_steps=12", "model.hidden_size=8", "trainer.limit_val_batches=4")
LETTERS = "the quick brown fox jumps over the lazy dog; " * 30


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Callable[..., RunFolder]:
    """Return what trains a run once, of an experiment's overrides."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def make(*overrides: str) -> RunFolder:
        if overrides not in done:
            done[overrides] = train(compose(*SHORT, *overrides), root)[0]
        return done[overrides]

    return make


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> tuple[str, ...]:
    """Overrides that train on a table of texts with named labels."""
    table = tmp_path_factory.mktemp("table") / "reviews.csv"
    words = ("fine, lovely", "bad and awful")
    rows = [f'"{words[n % 2]} {n}",{("for", "against")[n % 2]}' for n in range(120)]
    table.write_text("words,label\n" + "\n".join(rows) + "\n")
    own = ("data.num_classes=2", "data.input_column=words", "data.max_length=9")
    return ("data=table_files", f"data.files={table}", *own, "name=reviews", "optimizer.lr=0.03")


@pytest.fixture(scope="session")
def numbers(tmp_path_factory) -> tuple[str, ...]:
    """Overrides that train on a table of numbers, two a step."""
    table = tmp_path_factory.mktemp("table") / "numbers.csv"
    rows = [f"{n % 3} {n} {n + 1} -2.5,{n % 2}" for n in range(80)]
    table.write_text("steps,label\n" + "\n".join(rows) + "\n")
    own = ("data.num_classes=2", "data.input_column=steps", "data.num_features=2")
    return (
        *("data=table_files", f"data.files={table}", *own, "data.num_tokens=null"),
        *("name=numbers",),
    )


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> tuple[str, ...]:
    """Overrides that train a language model."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(LETTERS)
    return ("data=text_files", f"data.files={path}", "data.batch_size=3", "data.window=16")
