"""The notebook of the documentation runs from its first cell to its last."""

import nbformat
from nbclient import NotebookClient
from pages import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # they would go stale
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    client = NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = {
        index: str(output["data"]["text/plain"])
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", ())
        if "data" in output
    }
    assert any(text.startswith("lstm_ln on japanese_vowels: test/") for text in shown.values())
    assert any(text.startswith("Averages on japanese_vowels: test/") for text in shown.values())
    assert "torch.Size([2, 9])" in shown.values()
    assert len(list((tmp_path / "runs" / "japanese_vowels").glob("*/seed1/run.json"))) == 4
