"""Initial weights from a folder of anybody's: tensors are read, and nothing else acts."""

import shutil

import pytest
import torch
from experiments import compose
from hostile_objects import Bait

from lnrnn.training import ConfigurationError, RunFolder, train

SMALL = ("model=lstm_ln", "model.hidden_size=8", "trainer.max_steps=2")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunFolder:
    return train(compose(*SMALL, "name=a"), tmp_path_factory.mktemp("source"))[0]


def test_nothing_of_a_source_is_executed(source, tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "step-00000001.ckpt"
    newest = source.newest_checkpoint()
    assert newest is not None
    checkpoint = torch.load(newest, weights_only=True)
    torch.save(checkpoint, file)
    _, record = train(compose(*SMALL, "name=b", f"init_from={file}"), tmp_path / "harmless")
    assert record.init_from["file"] == str(file)
    checkpoint["state_dict"]["model.head.linear.bias"] = Bait(mark)
    torch.save(checkpoint, file)
    with pytest.raises(ConfigurationError, match="damaged or not a checkpoint"):
        train(compose(*SMALL, "name=b", f"init_from={file}"), tmp_path / "runs")
    assert not mark.exists()


def test_the_code_that_a_source_names_is_not_needed(source, tmp_path):
    """Weights alone are read: what its configuration would build does not matter."""
    copy = tmp_path / "copy"
    shutil.copytree(source.path, copy)
    text = (copy / "config.yaml").read_text()
    text = text.replace("lnrnn.models.RecurrentEncoder", "os.system")
    assert "os.system" in text
    (copy / "config.yaml").write_text(text)
    _, record = train(compose(*SMALL, "name=b", f"init_from={copy}"), tmp_path / "runs")
    assert record.status == "finished"


def test_a_link_in_the_folder_of_a_source_is_refused(source, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source.path, copy)
    checkpoint = next((copy / "checkpoints").glob("step-*.ckpt"))
    elsewhere = checkpoint.rename(tmp_path / "elsewhere.ckpt")
    checkpoint.symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="link"):
        train(compose(*SMALL, "name=b", f"init_from={copy}"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
