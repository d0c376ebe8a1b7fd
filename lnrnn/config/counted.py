"""Classes that are counted in the user's own tables, before anything is built of their number.

What is written is what holds: a run's ``config.yaml`` has the number, and so have those who resume,
test or use the run.
"""

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lnrnn.config.errors import ConfigurationError

COUNT = "count"
TABLES, COUNTS = "lnrnn.data.table_files", "lnrnn.data.count_classes"
READ = (
    *("files", "validation_files", "test_files", "task", "input_columns", "target_column"),
    *("missing", "max_length", "separator", "encoding"),
)


def settle_classes(config: DictConfig) -> None:
    """Write into a configuration how many classes its tables have, where it asks for that.

    Args:
        config: A composed configuration, which is changed.

    Raises:
        ConfigurationError: If it asks for that of other data, or they cannot be counted.
    """
    data = config.get("data")
    if not isinstance(data, DictConfig):
        return  # what is wrong with it is said where nodes are checked
    try:
        plain = OmegaConf.to_container(data, resolve=True)
    except OmegaConfBaseException:  # said where references are resolved
        return
    if not isinstance(plain, dict) or plain.get("num_classes") != COUNT:
        return
    if plain.get("_target_") != TABLES:
        raise ConfigurationError(
            f"data.num_classes={COUNT} is for your own tables (data=table_files and its kin); "
            "these data have a number of their own, which their file says"
        )
    given = {key: plain[key] for key in READ if key in plain}
    try:  # pyarrow raises NotImplementedError for columns of types that it cannot compare
        data.num_classes = get_method(COUNTS)(**given)  # by name, as data are built
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ConfigurationError(f"data: {error}") from error
