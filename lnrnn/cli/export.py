"""Write a trained model as a file for other programs, and compare the file with the model.

lnrnn export run=runs/mnist1d/lstm_lncell/seed0 format=onnx out=lstm.onnx
lnrnn export run=runs/mnist1d/lstm_lncell/seed0 format=safetensors out=lstm

lnrnn.load("lstm") reads the last; docs/serving.md says how the others are read. What can be set
(conf/export.yaml):
"""

import sys
from pathlib import Path

from lnrnn.cli.arguments import read_arguments
from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError


def main() -> None:
    """Write what the command line asks for."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "export.yaml").read_text().partition("_self_\n\n")[2])
        return
    try:
        settings = read_arguments(sys.argv[1:], "export")
        from lnrnn.inference import load  # takes seconds, which a misspelt key need not
        from lnrnn.inference.export_files import FORMATS, export
        from lnrnn.inference.handed_out import hand_out

        form, out = settings["format"], Path(settings["out"])
        if form not in FORMATS:
            raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}, got {form!r}")
        if FORMATS[form] and out.suffix != FORMATS[form]:
            raise ConfigurationError(f"out={out}: a file of {form} ends in {FORMATS[form]}")
        model = load(settings["run"], weights=settings["weights"], trust=settings["trust"])
        if form == "safetensors":
            hand_out(model, out)
            said = "the same numbers, bit for bit"
        else:
            said = f"scores differ by at most {export(model, out, form):.1e} of the largest"
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"written: {out} (read back: {said})")
