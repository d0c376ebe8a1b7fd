"""Models on the Hugging Face hub: two files and a card, of which nothing is executed."""

from __future__ import annotations  # huggingface_hub takes a while to import

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from lnrnn.config.errors import ConfigurationError
from lnrnn.inference.card import model_card
from lnrnn.inference.handed_out import CONFIG, WEIGHTS, hand_out
from lnrnn.inference.trained_model import TrainedModel

SCHEME = "hf://"
CARD = "README.md"


def push(model: TrainedModel, repository: str, *, private: bool = True) -> str:
    """Put a model into a repository of the hub, which is made if need be.

    Weights, configuration and card are one commit. Who may write there is decided by the token of
    ``hf auth login`` or ``HF_TOKEN``.

    Args:
        model: The model.
        repository: ``user/name``.
        private: Whether a repository that is made is seen by its owner only.

    Returns:
        The commit's address.

    Raises:
        ConfigurationError: If the name is none, or the hub cannot be reached or refuses.
    """
    check_repository(repository)
    from huggingface_hub import CommitOperationAdd, HfApi

    with TemporaryDirectory() as place, _explained(repository):
        folder = Path(place)
        hand_out(model, folder)
        (folder / CARD).write_text(model_card(model, repository), encoding="utf-8")
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, folder / name) for name in (WEIGHTS, CONFIG, CARD)],
            commit_message="Upload a model of lnrnn",
        )
        return commit.commit_url


def fetch(address: str, revision: str | None) -> tuple[Path, Path]:
    """Fetch a model's two files, or find them in the hub's cache.

    Args:
        address: ``hf://user/name``.
        revision: A commit, branch or tag; None for the newest.

    Returns:
        Configuration and weights, as files that are no links.

    Raises:
        ConfigurationError: If the name is none, or the hub has no such files or cannot be reached.
    """
    repository = address.removeprefix(SCHEME)
    check_repository(repository)
    from huggingface_hub import hf_hub_download

    with _explained(repository):
        config = hf_hub_download(repository, CONFIG, revision=revision)
        # Of the same commit, whatever has happened to the branch in between.
        commit = Path(config).parent.name
        weights = hf_hub_download(repository, WEIGHTS, revision=commit)
    return Path(config).resolve(), Path(weights).resolve()


def check_repository(name: str) -> None:
    """Raise ConfigurationError unless a name is one of the hub, ``user/name``."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ".." in name:
        raise ConfigurationError(f"a repository of the hub is user/name, got {name!r}")


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    # The base of its HTTP client's errors, whichever client this release has.
    client = cast(type[Exception], HfHubHTTPError.__mro__[1])
    try:
        yield
    except ConfigurationError:
        raise
    except (client, OSError, ValueError) as error:
        raise ConfigurationError(
            f"{repository} on the Hugging Face hub: {str(error).strip()}\nTo write, or to read "
            "what is private, log in: hf auth login. With HF_HUB_OFFLINE=1 nothing is asked."
        ) from error
