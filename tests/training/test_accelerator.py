"""A trainer that asks for a GPU, on machines without one."""

import pytest
import torch

from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.training.accelerator import check_gpu


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("cuda", "words"), [(None, "it is a CPU-only build"), ("13.0", "no driver answers")]
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


@pytest.mark.parametrize(
    "override", ["trainer.accelerator=auto", "trainer.accelerator=cpu", "~trainer.accelerator"]
)
def test_others_need_no_gpu(override: str) -> None:
    check_gpu(compose_experiment([override]).config.trainer)
