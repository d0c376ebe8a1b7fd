"""Test a trained model again, from its run's folder: ``lnrnn evaluate``, in a clone."""

import sys

try:
    from lnrnn.cli.main import run
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Is the environment active?  make install && . .venv/bin/activate")

if __name__ == "__main__":
    run("evaluate")
