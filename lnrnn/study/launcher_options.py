"""What may be asked of a launcher, which starts the workers of a comparison on other machines."""

from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lnrnn.checks import is_whole
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import unknown_key

CLUSTERS = ("slurm", "local")
LEAST_MINUTES = 5  # a job is warned two minutes before its end, and has to come to something before


@dataclass(frozen=True)
class SubmititOptions:
    """``launcher=submitit``: one array of SLURM jobs; ``conf/launcher/submitit.yaml`` says more."""

    workers: int
    wait: bool
    timeout_min: int
    max_timeouts: int
    cpus: int
    gpus: int
    mem_gb: float | None
    partition: str | None
    account: str | None
    qos: str | None
    parallel: int | None
    setup: list[str]
    sbatch: dict[str, Any]
    cluster: str


@dataclass(frozen=True)
class RayOptions:
    """``launcher=ray``: tasks on a Ray cluster; ``conf/launcher/ray.yaml`` says more."""

    workers: int
    address: str
    cpus: int
    gpus: int


LauncherOptions = SubmititOptions | RayOptions
KINDS: dict[str, type[LauncherOptions]] = {"submitit": SubmititOptions, "ray": RayOptions}
LEAST = {"workers": 1, "cpus": 1, "gpus": 0, "max_timeouts": 0, "timeout_min": LEAST_MINUTES}


def read_options(kind: str, node: DictConfig) -> LauncherOptions:
    """Return what the command line asks of a launcher.

    Args:
        kind: The file in ``conf/launcher``.
        node: What it holds, and what was changed of it. Its keys are the file's.

    Raises:
        ConfigurationError: If a value does not fit.
    """
    values = {str(key): value for key, value in node.items()}
    known = [field.name for field in fields(KINDS[kind])]
    for key in values:
        if key not in known:  # +launcher.KEY=VALUE adds what nothing would read
            raise ConfigurationError(unknown_key("launcher", key, known))
    for key, least in LEAST.items():
        if key in values and not is_whole(values[key], least=least):
            raise _refusal(key, f"a whole number of at least {least}", values[key])
    if kind == "ray":
        return RayOptions(**{**values, "address": _address(values["address"])})
    if not isinstance(values["wait"], bool):
        raise _refusal("wait", "true or false", values["wait"])
    if values["cluster"] not in CLUSTERS:
        raise _refusal("cluster", " or ".join(CLUSTERS), values["cluster"])
    if values["parallel"] is not None and not is_whole(values["parallel"], least=1):
        raise _refusal("parallel", "null or a whole number of at least 1", values["parallel"])
    memory = values["mem_gb"]
    if memory is not None and not (_is_number(memory) and memory > 0):
        raise _refusal("mem_gb", "null or a positive number", memory)
    for key in ("partition", "account", "qos"):
        values[key] = _word(key, values[key])
    values["setup"] = _lines(values["setup"])
    values["sbatch"] = _sbatch(values["sbatch"])
    return SubmititOptions(**values)


def _word(key: str, value: Any) -> str | None:
    """Return an option of sbatch, which may look like a number."""
    if value is None:
        return None
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise _refusal(key, "null or a name", value)
    return str(value)


def _address(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refusal("address", "auto or the address of a cluster's head, HOST:6379", value)
    return value


def _lines(value: Any) -> list[str]:
    lines = OmegaConf.to_container(value) if OmegaConf.is_list(value) else None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise _refusal("setup", "a list of shell commands", value)
    return [str(line) for line in lines]


def _sbatch(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    options = OmegaConf.to_container(value) if OmegaConf.is_dict(value) else None
    if not isinstance(options, dict) or not all(
        isinstance(option, (str, int, float, bool)) for option in options.values()
    ):
        raise _refusal("sbatch", "null or options of sbatch, such as {constraint:a100}", value)
    return {str(key): option for key, option in options.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refusal(key: str, rule: str, received: Any) -> ConfigurationError:
    return ConfigurationError(f"launcher.{key} must be {rule}, got {received}")
