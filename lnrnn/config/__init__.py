"""From files and overrides to a checked configuration, and from its nodes to objects."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries the files as lnrnn/conf; in the repository they are beside the package.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
