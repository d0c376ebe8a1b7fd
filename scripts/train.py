"""Train one model on one data set, or resume an interrupted run: ``lnrnn train``, in a clone."""

import sys

try:
    from lnrnn.cli.main import run
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Is the environment active?  make install && . .venv/bin/activate")

if __name__ == "__main__":
    run("train")
