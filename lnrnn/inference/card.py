"""What a person reads of a model that was handed out: a page in Markdown, made of plain values."""

import json
from typing import Any

import yaml

from lnrnn.config.errors import ConfigurationError
from lnrnn.inference.compared import MOST, lines_of
from lnrnn.inference.trained_model import TrainedModel

FORMULAS = {
    None: "no norm: torch.nn's own recurrence",
    "output": "y = gain * (h - mean(h)) / sqrt(var(h) + eps) + shift, of each layer's output h",
    "cell": "the same norm inside every step, of what goes into the gates (Ba, Kiros and Hinton, "
    "arXiv:1607.06450)",
    "pre": "y = gain * (x - mean(x)) / sqrt(var(x) + eps) + shift, before attention and perceptron",
    "post": "y = gain * (x - mean(x)) / sqrt(var(x) + eps) + shift, after each residual sum",
}
TASKS = {"classification": "text-classification", "language_modeling": "text-generation"}


def model_card(model: TrainedModel, repository: str) -> str:
    """Return the card.

    Args:
        model: The model.
        repository: Where it will be, ``user/name``.
    """
    about, known = model.about, model.preparation
    front: dict[str, Any] = {"library_name": "lnrnn", "tags": ["lnrnn", "layer-normalization"]}
    if known.kind in TASKS and known.symbols == "bytes":
        front["pipeline_tag"] = TASKS[known.kind]
    use = 'generate("To be")' if known.kind == "language_modeling" else "predict(sequences)"
    test = {k: v for k, v in (about.get("metrics") or {}).items() if isinstance(v, int | float)}
    rows = [f"| {_text(name)} | {value:.6g} |" for name, value in test.items()]
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {_text(repository)}",
        f"{_text(about.get('model'))}, trained on {_text(about.get('data'))} by "
        "lnrnn: layer-normalized recurrent networks in PyTorch.",
        f'```python\nimport lnrnn\n\nmodel = lnrnn.load("hf://{repository}")\nmodel.{use}\n```',
        "## Measured\n\n" + "\n".join(["| test metric | value |", "| --- | ---: |", *rows])
        if rows
        else "## Measured\n\nNothing: the run has not tested these weights.",
        *_compared(about.get("compared")),
        f"One run, seed {_text(about.get('seed'))}, after {_text(about.get('steps'))} steps, "
        f"{_text(about.get('weights'))} weights. One run says nothing of the spread over seeds"
        + (", the comparison does." if about.get("compared") else "."),
        f"## The model\n\n{_formula(model)}\n\n{_block(model.nodes['model'])}",
        f"## What it reads and answers\n\n{_block(_answers(model))}",
        "## Made with\n\n"
        + _block(
            {
                "commit": about.get("commit"),
                "sha256 of the weights it started with": about.get("init_from"),
                **(about.get("versions") or {}),
            }
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _compared(found: Any) -> list[str]:
    """Return a section for every comparison that the run was part of.

    Raises:
        ConfigurationError: If what the model brings along is none.
    """
    if not found:
        return []
    try:
        told = [(entry["comparison"], lines_of(entry)) for entry in found[:MOST]]
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the model's comparisons are damaged: {error}") from error
    return [
        f"## Compared: {_text(name)}\n\n" + "\n".join(f"    {_line(line)}" for line in lines)
        for name, lines in told
    ]


def _formula(model: TrainedModel) -> str:
    norm = model.nodes["model"].get("norm")
    if isinstance(norm, dict):  # a CellNorm, whose fields are shown below
        return f"{FORMULAS['cell']}, in the variant below."
    return f"{FORMULAS.get(norm, 'see below')}."


def _answers(model: TrainedModel) -> dict[str, Any]:
    known = model.preparation
    return {
        "kind": known.kind,
        "features a step": known.num_features,
        "symbols": known.symbols,
        "columns": list(known.columns),
        "scaled by training statistics": known.scaling is not None,
        "classes": None if known.kind == "language_modeling" else list(known.class_names),
    }


def _block(values: dict[str, Any]) -> str:
    """Show plain values so that nothing in them is taken for Markdown: indented, a line each."""
    lines = (f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items() if v is not None)
    return "\n".join(lines)


def _line(text: str) -> str:
    """Show a line inside an indented block, where nothing is taken for Markdown, as one line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _text(value: Any) -> str:
    """Show a value in a line of prose without what Markdown or HTML would act on."""
    return "".join(c if c.isalnum() or c in " ./_-+:" else "?" for c in str(value))[:200]
