"""Arms that are folders of runs, from wherever they were trained."""

from pathlib import Path

from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError
from lnrnn.study.plan import name_arms
from lnrnn.study.settings import Settings


def are_folders(settings: Settings) -> bool:
    """Return whether the arms are folders, which nothing but their paths chooses.

    Raises:
        ConfigurationError: If only some are, or something is given that chooses runs.
    """
    given = [arm for arm in settings.arms if _is_path(arm.split()[0])]
    if not given:
        return False
    if settings.train:
        raise ConfigurationError(
            f"{given[0]} is a folder, of which runs are only read: add train=false; or an arm "
            "begins with a file in conf/model, such as rnn_ln"
        )
    if len(given) < len(settings.arms):
        raise ConfigurationError(
            f"either all arms are folders or none of them, got {', '.join(settings.arms)}"
        )
    own = [*(["lr"] if settings.rates else []), *(["splits"] if settings.splits > 1 else [])]
    if settings.passed or own:
        chosen = ", ".join([*settings.passed, *own])
        raise ConfigurationError(
            f"{chosen} would choose runs, but the arms are folders, which are taken as they are"
        )
    return True


def _is_path(text: str) -> bool:
    is_model = (CONF / "model" / f"{text}.yaml").is_file()
    return "/" in text and (Path(text).is_dir() or not is_model)


def folders_of(settings: Settings) -> dict[str, list[Path]]:
    """Return the runs in every arm's folder.

    Raises:
        ConfigurationError: If there is none in one of them.
    """
    found = {}
    for name, arm in name_arms(settings.arms).items():
        found[name] = sorted(path for path in Path(arm).glob("seed*") if path.is_dir())
        if not found[name]:
            raise ConfigurationError(
                f"the arm {arm} must be a folder with runs in folders named seed0, seed1, ...; "
                "there is none"
            )
    return found
