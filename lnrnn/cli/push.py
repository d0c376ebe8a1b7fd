"""Put a trained model on the Hugging Face hub: weights, configuration and a card.

lnrnn push run=runs/mnist1d/lstm_lncell/seed0 repo=user/name

lnrnn.load("hf://user/name") reads it. The token is that of `hf auth login`, or HF_TOKEN. What can
be set (conf/push.yaml):
"""

import sys

from lnrnn.cli.arguments import read_arguments
from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError


def main() -> None:
    """Push what the command line names."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "push.yaml").read_text().partition("_self_\n\n")[2])
        return
    try:
        settings = read_arguments(sys.argv[1:], "push")
        if not isinstance(settings["private"], bool):
            raise ConfigurationError(f"private must be true or false, got {settings['private']!r}")
        from lnrnn.inference import load  # takes seconds, which a misspelt key need not
        from lnrnn.inference.hub import check_repository, push

        check_repository(settings["repo"])
        model = load(settings["run"], weights=settings["weights"], trust=settings["trust"])
        address = push(model, settings["repo"], private=settings["private"])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f'pushed: {address}\nto use it: lnrnn.load("hf://{settings["repo"]}")')
