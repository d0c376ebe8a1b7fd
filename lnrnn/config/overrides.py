"""Overrides as they are typed: what each says, and which runs a sweep over them makes."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import check_trust


def combinations(overrides: Sequence[str], config_dir: Path) -> Iterator[list[str]]:
    """Yield the override lists of the single runs that a sweep such as ``model=rnn,lstm`` makes.

    Raises:
        ConfigurationError: If an override cannot be read, or a sweep over numbers has one name.
    """
    choices = []
    named = [text for text in overrides if re.match(r"[+]*name=", text)]
    with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            raise ConfigurationError(explain_override(text, error, parser)) from error
        key = text.split("=", 1)[0]
        if override.is_hydra_override() or not override.is_sweep_override():
            choices.append([text])
        elif override.is_discrete_sweep():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        elif named:
            raise ConfigurationError(
                f"{text} makes many runs, and {named[0]} gives all of them one folder: leave the "
                "name out, and every run is named after what it changes"
            )
        # Other sweeps are over numbers, which choose no file; each run is checked when it starts.
    for combination in itertools.product(*choices):
        yield list(combination)


def explain_override(text: str, error: HydraException, parser: OverridesParser) -> str:
    """Say how an override that cannot be read is written, with quotes inside where they help."""
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        what = "is not a flag of this command" if text.startswith("-") else "has no key"
        return f"{text!r} {what}: everything is written key=value, such as model=lstm"
    inside = _quoted_inside(value)
    quoted = f"{key}={inside}"
    try:
        parser.parse_overrides([quoted])
        helps = "'" not in value
    except HydraException:
        helps = False
    if helps and inside is not None:
        words = f"cannot read the override {text!r} as it is: {_first_line(error)}"
        shown = f'"{quoted}"' if not re.search(r'["$`!\\]', quoted) else shlex.quote(quoted)
        return f"{words}\nA value with such characters is quoted inside too: {shown}"
    return (
        f"cannot read the override {text!r}: {error}\n"
        "Overrides look like model=lstm or model.eps=1e-3; lists want quotes: 'key=[a,b]'."
    )


def _quoted_inside(value: str) -> str | None:
    """Return a value in quotes, or a list of plain words with each of them in quotes."""
    if not re.match(r"[\[{]", value):
        return f"'{value}'"
    words = re.fullmatch(r"\[([^\[\]{}'\"]+)\]", value)
    if words is None:
        return None
    return "[" + ",".join(f"'{word.strip()}'" for word in words[1].split(",")) + "]"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def split_trust(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the packages that the command line trusts, and the other overrides.

    Raises:
        ConfigurationError: If what it trusts cannot be read.
    """
    trust: tuple[str, ...] = ()
    others = []
    for text in overrides:
        if text.split("=", 1)[0].lstrip("+~") != "trust":
            others.append(text)
            continue
        try:
            trust = check_trust(OverridesParser.create().parse_override(text).value())
        except HydraException as error:
            raise ConfigurationError(f"cannot read the override {text!r}: {error}") from error
    return trust, others
