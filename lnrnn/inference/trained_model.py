"""A trained model that knows how its training data were treated.

Dimensions: B sequences, T steps, C classes.
"""

import codecs
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lnrnn.inference.generation import continued
from lnrnn.inference.inputs import to_batch, to_steps
from lnrnn.models import SequenceModel
from lnrnn.preparation import Preparation


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of sequences, in their order.

    Args:
        classes: The classes' names, in the order of the probabilities; empty for numbers.
        labels: For each sequence the most probable class's name; with a class a step, the names of
            its steps; for numbers, empty.
        probabilities: For each sequence (C,), or (T, C) with a class a step; for numbers, empty.
        values: For each sequence its number, or the list of those of its steps or of the horizon,
            in the units of the training data; empty for classes.
    """

    classes: tuple[str, ...] = ()
    labels: tuple[Any, ...] = ()
    probabilities: tuple[Tensor, ...] = ()
    values: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.labels) or len(self.values)


class TrainedModel:
    """A model, and what it needs to be used without its training data.

    Args:
        module: The model itself, a ``torch.nn.Module`` that maps prepared inputs and lengths to
            scores and state.
        preparation: How the training data were treated.
        about: What else is known: data, model, metrics, versions.
        nodes: What the module was built from: the nodes ``model``, ``head`` and ``trust``, plain.
    """

    def __init__(
        self,
        module: SequenceModel,
        preparation: Preparation,
        about: dict[str, Any],
        nodes: dict[str, Any],
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.preparation = preparation
        self.about, self.nodes = about, nodes

    def __repr__(self) -> str:
        known = self.preparation
        return f"TrainedModel({self.about.get('model')} on {self.about.get('data')}, {known.kind})"

    @property
    def device(self) -> torch.device:
        """Where it computes; ``model.module.to("cuda")`` moves it."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which numbers it computes."""
        return next(self.module.parameters()).dtype

    def predict(self, sequences: Any, *, batch_size: int = 64) -> Predictions:
        """Return the model's answers to new sequences, which are treated as the training data were.

        Args:
            sequences: A text, or a list of texts; or a list of sequences of numbers, each (T, F),
                or (T,) where F is 1; an array (B, T, F) is one, too.
            batch_size: Sequences that are computed at a time.

        Raises:
            ValueError: If a sequence is not what the model reads; the message has its place in the
                list. If the model predicts the next symbol: it generates, and classifies nothing.
        """
        self.check_answers()
        if isinstance(sequences, str | bytes):
            sequences = [sequences]
        known = self.preparation
        prepared = [to_steps(s, known, f"sequence {n}") for n, s in enumerate(sequences)]
        parts = [
            self.answer(prepared[start : start + batch_size])
            for start in range(0, len(prepared), batch_size)
        ]
        joined = {
            field.name: sum((getattr(part, field.name) for part in parts), ())
            for field in dataclasses.fields(Predictions)
            if field.name != "classes"
        }
        return Predictions(known.class_names, **joined)

    def answer(self, prepared: Sequence[Tensor]) -> Predictions:
        """Return the model's answers to one batch of prepared sequences.

        Args:
            prepared: From :func:`lnrnn.inference.inputs.to_steps`; at least one.
        """
        inputs, lengths = to_batch(prepared, self.preparation)
        scores = self.scores(inputs, lengths)
        if self.preparation.num_classes is None:
            mean, std = self.preparation.target_scale
            numbers = (scores.double() * std + mean).tolist()  # (B,), (B, H) or (B, T)
            if self.preparation.per_step:
                numbers = [row[: len(s)] for row, s in zip(numbers, prepared, strict=True)]
            return Predictions(values=tuple(numbers))
        names = self.preparation.class_names
        every = scores.double().softmax(-1).cpu()  # (B, C) or (B, T, C)
        if self.preparation.kind != "tagging":
            best = every.argmax(-1).tolist()
            return Predictions(names, tuple(names[n] for n in best), tuple(every))
        rows = [row[: len(steps)] for row, steps in zip(every, prepared, strict=True)]
        labels = tuple([names[n] for n in row.argmax(-1).tolist()] for row in rows)
        return Predictions(names, labels, tuple(rows))

    def scores(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the model's own numbers for prepared inputs.

        Args:
            inputs: (B, T, F) or (B, T).
            lengths: Valid steps, (B,) int64 on the CPU; None where all are.

        Returns:
            Scores before a softmax, (B, C) or (B, T, C), or numbers as they were trained, (B,),
            (B, H) or (B, T).
        """
        if inputs.is_floating_point():
            inputs = inputs.to(self.dtype)
        with torch.no_grad():
            return self.module(inputs.to(self.device), lengths)[0]

    def generate(
        self, prompt: str = "", *, length: int = 400, temperature: float = 0.8, seed: int = 0
    ) -> str:
        """Continue a text.

        Args:
            prompt: How the text begins; an empty one begins after a new line.
            length: Bytes that are added.
            temperature: By which scores are divided before one is drawn: below 1 the likely
                becomes more likely, and at 0 the most likely byte is always taken.
            seed: What is drawn follows from it.

        Returns:
            The prompt and what follows. Bytes that are no UTF-8 are shown as U+FFFD, and a last
            letter that has only begun is left out.

        Raises:
            ValueError: If the model is no language model of bytes, or an argument makes no sense.
        """
        text = self.generate_bytes(
            prompt.encode(), length=length, temperature=temperature, seed=seed
        )
        return codecs.getincrementaldecoder("utf-8")("replace").decode(text)

    def generate_bytes(
        self, prompt: bytes = b"", *, length: int = 400, temperature: float = 0.8, seed: int = 0
    ) -> bytes:
        """Continue a text, as :meth:`generate`, and return its bytes as they are."""
        known = self.preparation
        if known.kind != "language_modeling" or known.symbols != "bytes":
            raise ValueError(
                f"this model is for {known.kind}, and only a language model of bytes generates "
                "text: one that was trained with data=shakespeare or data=text_files"
            )
        added = continued(
            self.module,
            prompt,
            length=length,
            temperature=temperature,
            seed=seed,
            window=known.window,
            device=self.device,
        )
        return prompt + added

    def check_answers(self) -> None:
        """Raise ValueError if the model answers nothing, but continues texts."""
        if self.preparation.kind == "language_modeling":
            raise ValueError(
                "a language model predicts the next symbol: model.generate(...) or `lnrnn "
                "generate` continues a text, and `lnrnn evaluate` measures it"
            )
