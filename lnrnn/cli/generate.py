"""Let a trained language model continue a text.

lnrnn generate run=runs/shakespeare/lstm_ln/seed0 prompt="To be" length=400 temperature=0.8

What can be set (conf/generate.yaml):
"""

import sys
from pathlib import Path

from lnrnn.cli.arguments import read_arguments
from lnrnn.config import CONF


def main() -> None:
    """Write the text that the command line asks for."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "generate.yaml").read_text().partition("_self_\n\n")[2])
        return
    try:
        settings = read_arguments(sys.argv[1:], "generate")
        from lnrnn.inference import load  # takes seconds, which a misspelt key need not
        from lnrnn.runs.files import replacing

        model = load(settings["run"], weights=settings["weights"], trust=settings["trust"])
        how = {key: settings[key] for key in ("length", "temperature", "seed")}
        prompt = str(settings["prompt"])
        if settings["out"] is None:
            text = model.generate(prompt, **how)
            # A terminal may know fewer letters than a text has.
            encoding = sys.stdout.encoding or "utf-8"
            print(text.encode(encoding, "replace").decode(encoding))
            return
        with replacing(Path(settings["out"])) as file:
            file.write(model.generate_bytes(prompt.encode(errors="surrogateescape"), **how))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"written: {settings['out']}")
