"""Random cases: a command that trains something tiny, and the signals that interrupt it.

A case follows from its number alone. When a signal falls is drawn too, but the machine's speed
decides where the run is by then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from faults.fuzz.stops import Stop, draw_stop, pick

FORMS = {"train": 20, "sweep": 2, "compare": 1, "torchrun": 3}
# How: as the console command; forked from a process that has imported it, which saves seconds; or
# forked with the configuration composed before, which saves half of what is left.
STARTS = {"console": 1, "forked": 2, "composed": 7}

# Each weight says how often; None leaves the override out.
Choices = Mapping[str | None, int]
OVERRIDES: Mapping[str, Choices] = {
    "optimizer": {None: 3, "adam": 1, "sgd": 1},
    "model.dropout": {None: 1, "0.2": 1},
    "model.num_layers": {None: 3, "2": 1},
    "trainer.precision": {None: 5, "64-true": 2, "bf16-true": 2, "bf16-mixed": 1},
    "trainer.accumulate_grad_batches": {None: 4, "2": 1, "3": 1},
    "trainer.gradient_clip_val": {None: 9, "null": 1},
    "trainer.log_every_n_steps": {"1": 1, "3": 2, "5": 1},
    "trainer.limit_train_batches": {"4": 1, "5": 1, "7": 1, "11": 1},
    "trainer.limit_val_batches": {"1": 1, "3": 2},
    "trainer.limit_test_batches": {"2": 1, "5": 1},
    "schedule": {None: 2, "cosine": 1, "linear": 1},
    "warmup_steps": {None: 3, "4": 1},
    "early_stopping": {None: 5, "1": 1, "2": 1, "3": 1},
    "monitor": {None: 4, "true": 1},
    "data.num_workers": {None: 6, "1": 1, "2": 1},
    "checkpoint_every_n_steps": {"1": 1, "2": 1, "3": 2, "5": 2, "8": 1, None: 1},
    "seed": {None: 2, "1": 1, "2": 1},
}
VALIDATIONS = {
    "": 8,
    "trainer.val_check_interval=0.5": 1,
    "trainer.val_check_interval=2": 1,
    "trainer.val_check_interval=3": 1,
    "trainer.val_check_interval=3 +trainer.check_val_every_n_epoch=null": 1,
}
MODELS = {
    **{f"{cell}{norm}": 2 for cell in ("rnn", "lstm", "gru") for norm in ("", "_ln", "_lncell")},
    "transformer": 1,
    "transformer_post": 1,
}


@dataclass(frozen=True)
class Source:
    """A data set, and the overrides that make it tiny.

    Args:
        weight: How often it is drawn.
        batch_sizes: Such that an epoch has four batches at least.
        words: The overrides.
        is_text: Whether the next symbol is predicted, so that no model may look ahead.
    """

    weight: int
    batch_sizes: tuple[int, ...]
    words: tuple[str, ...] = ()
    is_text: bool = False


_FEW = ("data.num_train=90", "data.num_validation=20", "data.num_test=20")
DATA = {
    "japanese_vowels": Source(8, (8, 16, 32)),
    "adding": Source(5, (5, 9, 20), ("data.length=20", *_FEW)),
    "copying": Source(3, (5, 9, 20), ("data.length=24", *_FEW)),
    "text_files": Source(6, (3, 4, 5), ("data.files=text.txt", "data.window=12"), is_text=True),
    "table_files": Source(3, (4, 8), ("data.files=table.csv", "data.num_classes=3")),
    "mnist1d": Source(1, (40,)),
    "shakespeare": Source(1, (4,), ("data.window=12",), is_text=True),
}
# What a case finds where it is started.
FILES = {
    "text.txt": "".join(chr(97 + (i * i) % 26) for i in range(2500)),
    "table.csv": "text,label\n"
    + "".join(f"{'abc'[i % 3] * (3 + i % 7)},{i % 3}\n" for i in range(80)),
}


@dataclass(frozen=True)
class Case:
    """A command, and what interrupts it.

    Args:
        number: What it is drawn from.
        form: One of ``FORMS``.
        words: The command, without ``lnrnn``.
        start: One of ``STARTS``.
        stops: One for each session, until none is left and the run may finish.
    """

    number: int
    form: str
    words: tuple[str, ...]
    start: str
    stops: tuple[Stop, ...]

    @property
    def ranks(self) -> int:
        """How many processes make one run."""
        return 2 if self.form == "torchrun" else 1


def draw_case(number: int) -> Case:
    """Return the case of a number, always the same."""
    random = Random(number)
    form = pick(random, FORMS)
    words = draw_command(random, form)
    stops = tuple(draw_stop(random) for _ in range(random.choice((1, 2, 3, 3, 4, 4))))
    start = pick(random, STARTS)
    if form == "torchrun" and start == "console":  # a minute each, and in test_ranks.py
        start = "forked"
    return Case(number, form, words, start, stops)


def draw_command(random: Random, form: str) -> tuple[str, ...]:
    """Return the words of a command that trains for about a second."""
    name = pick(random, {name: source.weight for name, source in DATA.items()})
    source, model = DATA[name], pick(random, MODELS)
    words = [f"data={name}", *source.words, f"data.batch_size={random.choice(source.batch_sizes)}"]
    drawn = {key: pick(random, choices) for key, choices in OVERRIDES.items()}
    words += [f"{key}={value}" for key, value in drawn.items() if value is not None]
    words += pick(random, VALIDATIONS).split()
    words += draw_budget(random)
    words += ["model.hidden_size=8", "trainer.enable_model_summary=false"]
    if model.startswith("transformer"):
        words.append("model.num_heads=2")
        words += ["model.causal=true"] if source.is_text else []
    elif not source.is_text and random.random() < 0.2:
        words.append("model.bidirectional=true")
    if form == "compare":
        return compare_command(
            random, model, [word for word in words if not word.startswith("seed=")]
        )
    words.insert(0, f"model={model}")
    if form == "torchrun":
        words += ["trainer=ddp", "trainer.accelerator=cpu"]
    if form == "sweep":
        words = [word for word in words if not word.startswith("seed=")]
        words += ["seed=0,1", "-m"]
    return ("train", *words)


def draw_budget(random: Random) -> list[str]:
    """Return how long to train: in epochs, in steps, or whichever ends first."""
    epochs, steps = f"trainer.max_epochs={random.randint(2, 7)}", random.randint(5, 40)
    return random.choice(
        (
            [epochs],
            [epochs],
            ["trainer.max_epochs=-1", f"trainer.max_steps={steps}"],
            [f"trainer.max_steps={steps}"],
            [epochs, f"trainer.max_steps={steps}"],
        )
    )


def compare_command(random: Random, model: str, words: list[str]) -> tuple[str, ...]:
    """Return a comparison of two models, with or without a search for learning rates."""
    cell, _, norm = model.partition("_")
    arms = f"arms=[{cell}{'' if norm else '_post' if cell == 'transformer' else '_ln'},{model}]"
    rates = ["lr=[1e-3,3e-3]", "tuning_seeds=1"] if random.random() < 0.3 else []
    jobs = 2 if random.random() < 0.2 else 1
    return ("compare", arms, "seeds=2", f"jobs={jobs}", "cost=false", *rates, *words)
