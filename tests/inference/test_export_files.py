"""Files for other programs: each is run and compared before it counts."""

import pytest
import torch

import lnrnn
from lnrnn.inference import export_files
from lnrnn.inference.export_files import BOUND, Scores, example_inputs, export
from lnrnn.training import ConfigurationError

VOWELS = ("data=japanese_vowels", "model=lstm_lncell")
FLATTENED = ("data=mnist1d", "model=gru_lncell", "head.pooling=flatten")


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize("kind", ["features", "text", "language", "flattened", "transformer"])
def test_a_file_computes_what_the_model_does(made, text, reviews, tmp_path, form, kind):
    chosen = {
        "features": VOWELS,
        "text": reviews,
        "language": (*text, "model=gru"),
        "flattened": FLATTENED,
        "transformer": ("data=japanese_vowels", "model=transformer", "model.num_heads=2"),
    }
    model = lnrnn.load(made(*chosen[kind]).path)
    path = tmp_path / f"model{export_files.FORMATS[form]}"
    assert export(model, path, form) <= BOUND
    inputs = example_inputs(model, 7, 40)  # neither of the sizes that export has tried
    expected = Scores(model.module)(inputs)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        found = torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])
    else:
        found = torch.export.load(path).module()(inputs)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spoil", [lambda x: x + 0.01, lambda x: x * torch.nan, lambda x: x[:1]])
def test_a_file_that_computes_something_else_is_removed(made, tmp_path, monkeypatch, spoil):
    model = lnrnn.load(made(*VOWELS).path)
    right = export_files._torch_export
    monkeypatch.setitem(
        export_files._WRITE_AND_RUN, "torch_export", lambda *given: spoil(right(*given))
    )
    with pytest.raises(ConfigurationError, match="so it was removed"):
        export(model, tmp_path / "model.pt2", "torch_export")
    assert not (tmp_path / "model.pt2").exists()


def test_a_missing_package_is_named(made, tmp_path, monkeypatch):
    def lacking(*given):
        raise ImportError("ONNX files need packages of their own; pip install 'lnrnn[onnx]'")

    monkeypatch.setitem(export_files._WRITE_AND_RUN, "onnx", lacking)
    with pytest.raises(ConfigurationError, match=r"lnrnn\[onnx\]"):
        export(lnrnn.load(made(*VOWELS).path), tmp_path / "model.onnx", "onnx")
