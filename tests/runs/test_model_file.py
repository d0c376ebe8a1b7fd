"""What ``model.json`` says of how files were read."""

import pytest
from omegaconf import OmegaConf

from lnrnn.preparation import Preparation, Table
from lnrnn.runs.model_file import with_settings

KNOWN = Preparation("classification", 2, None, 3, None)
ODD = {"stride": 0.5, "separator": [",", ";"], "group_by": ["a", "b"]}


def test_keys_of_other_data_modules_mean_what_they_mean_there():
    config = OmegaConf.create({"data": {"_target_": "waves.waves", **ODD}})
    assert with_settings(KNOWN, config).table is None


def test_keys_of_tables_are_kept_and_checked():
    data = {"_target_": "lnrnn.data.table_files", "separator": ";", "stride": 2}
    found = with_settings(KNOWN, OmegaConf.create({"data": data}))
    assert found.table == Table(separator=";", stride=2)
    with pytest.raises(ValueError, match=r"table\.stride must be a whole number"):
        with_settings(KNOWN, OmegaConf.create({"data": {**data, "stride": 0.5}}))
