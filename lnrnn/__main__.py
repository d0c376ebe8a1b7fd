"""``python -m lnrnn`` is the command ``lnrnn``."""

from lnrnn.cli.main import main

main()
