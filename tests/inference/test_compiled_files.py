"""A program that AOTInductor compiles ahead, which takes a minute."""

import lnrnn
from lnrnn.inference.export_files import BOUND, export


def test_one_that_is_compiled_ahead(made, tmp_path):
    model = lnrnn.load(made("data=japanese_vowels", "model=lstm_lncell").path)
    assert export(model, tmp_path / "model.pt2", "aoti") <= BOUND
    assert (tmp_path / "model.pt2").exists()
