"""Compare models over paired seeds: ``lnrnn compare``, in a clone."""

import sys

try:
    from lnrnn.cli.main import run
except ModuleNotFoundError as error:
    print(f"{error}. Is the environment active?  make install && . .venv/bin/activate")
    sys.exit(2)

if __name__ == "__main__":
    run("compare")
