"""A trainer that asks for a GPU, on machines without one."""

import pytest
import torch

from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.training.build import check_gpu


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("cuda", "words"), [(None, "it is a build for CPUs alone"), ("13.0", "no driver answers")]
)
def test_a_gpu_that_is_not_there_is_named(
    cuda: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_gpu(compose_experiment(["trainer=gpu"]).config.trainer)
    assert "leave out trainer=gpu, or set trainer.accelerator=cpu" in str(caught.value)


@pytest.mark.parametrize("found", [torch.cuda, torch.backends.mps])
def test_a_gpu_that_is_there_is_taken(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "is_available", lambda: True)
    check_gpu(compose_experiment(["trainer=gpu"]).config.trainer)


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_nobody_else_is_asked(accelerator: str) -> None:
    check_gpu(compose_experiment([f"trainer.accelerator={accelerator}"]).config.trainer)
