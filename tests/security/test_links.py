"""A run's folder in which names lead elsewhere: nothing there is read, written or removed."""

import os
import re
import shutil
from pathlib import Path

import pytest
from experiments import compose

from lnrnn.cli import comparing
from lnrnn.comparison import RecordError, read_run
from lnrnn.runs.checkpoint_files import problem_of
from lnrnn.runs.files import misplaced, open_own, remove_leftovers, replace_text
from lnrnn.runs.folder import folder_of
from lnrnn.runs.lock import LOCK, locked
from lnrnn.study.settings import read_settings
from lnrnn.training import ConfigurationError, RunFolder, evaluate, train

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden_size=8", "trainer.max_steps=3", "trainer.limit_val_batches=1")
CHECKPOINT = "checkpoints/step-00000003"
OWN = (
    *("config.yaml", "run.json", "metrics.jsonl", "curves.png", LOCK, "checkpoints"),
    *(f"{CHECKPOINT}.ckpt", f"{CHECKPOINT}.json", "checkpoints/last"),
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """The folder of all runs, with one in it that wants to be continued."""
    root = tmp_path_factory.mktemp("runs")
    folder, _ = train(compose(*SMALL), root)
    folder.update_record(status="interrupted")
    (folder.path / LOCK).write_text("{}\n")  # as a killed one leaves it
    return root


@pytest.fixture
def root(stopped, tmp_path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(stopped, tmp_path / "runs"))


@pytest.fixture
def folder(root) -> RunFolder:
    return folder_of(compose(*SMALL), root)


def content(path: Path) -> dict[str, bytes]:
    """Return all files in a folder, or the one file."""
    files = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    return {str(found): found.read_bytes() for found in files}


def lead_elsewhere(path: Path, place: Path) -> None:
    """Move what is at ``path`` to another place, and leave a link to it."""
    shutil.move(path, place)
    path.symlink_to(place)


def test_the_untouched_run_is_continued(folder, root):
    assert train(compose(*SMALL), root)[1].status == "finished"


@pytest.mark.parametrize("name", OWN)
def test_a_link_in_the_place_of_a_runs_own_file_is_refused(name, folder, root, tmp_path):
    place = tmp_path / "elsewhere"
    lead_elsewhere(folder.path / name, place)
    before = content(place), content(folder.path)
    for act in (
        lambda: train(compose(*SMALL), root),
        lambda: train(compose(*SMALL, "resume=never"), root),
        lambda: evaluate(folder.path),
    ):
        with pytest.raises(ConfigurationError, match=f"{name}.* is a link"):
            act()
    with pytest.raises(RecordError, match=f"{name} is a link"):
        read_run(folder.path)
    assert (content(place), content(folder.path)) == before


@pytest.mark.parametrize("name", ["curves.png", LOCK, ".run.json.1.tmp", "tensorboard"])
def test_a_link_to_what_is_not_there_makes_nothing(name, folder, root, tmp_path):
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=f"{name} is a link"):
        train(compose(*SMALL), root)
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_the_place_of_a_file_does_not_hold_the_reader_up(folder, root):
    folder.record.unlink()
    os.mkfifo(folder.record)
    for act in (lambda: train(compose(*SMALL), root), lambda: evaluate(folder.path)):
        with pytest.raises(ConfigurationError, match=r"run\.json is neither a file nor a folder"):
            act()
    with pytest.raises(OSError, match="is not a file"):
        open_own(folder.record)


def test_the_folder_itself_and_the_folder_of_all_runs_may_be_links(folder, root, tmp_path):
    lead_elsewhere(folder.path, tmp_path / "big-disk")
    lead_elsewhere(root, tmp_path / "bigger-disk")
    assert train(compose(*SMALL), root)[1].status == "finished"
    assert evaluate(folder.path).metrics
    assert read_run(folder.path).status == "finished"


def test_a_logger_may_keep_links_to_its_own(folder, tmp_path):
    """As Weights & Biases does."""
    (folder.path / "wandb" / "run-1").mkdir(parents=True)
    (folder.path / "wandb" / "latest-run").symlink_to("run-1")
    (folder.path / "wandb" / "run-1" / "logs").mkdir()
    log = folder.path / "wandb" / "run-1" / "logs" / "debug-core.log"
    log.symlink_to(tmp_path / "of-wandb.log")  # absolute, into the user's cache
    assert misplaced(folder.path) is None
    (folder.path / "wandb" / "hparams.yaml").symlink_to(tmp_path / "elsewhere")
    assert "hparams.yaml is a link" in (misplaced(folder.path) or "")


def test_records_that_are_another_file_too_are_not_continued(folder, root, tmp_path):
    os.link(folder.metrics, tmp_path / "elsewhere")
    before = folder.metrics.read_bytes()
    with pytest.raises(ConfigurationError, match=r"metrics\.jsonl has a second name"):
        train(compose(*SMALL), root)
    assert (tmp_path / "elsewhere").read_bytes() == before
    shutil.copy(tmp_path / "elsewhere", folder.path / "copy")
    (folder.path / "copy").replace(folder.metrics)  # the way out that it names
    assert train(compose(*SMALL), root)[1].status == "finished"


def test_files_that_are_replaced_leave_their_second_names_alone(folder, root, tmp_path):
    for name in ("run.json", "config.yaml", "curves.png"):
        os.link(folder.path / name, tmp_path / name)
    before = content(tmp_path / "run.json")
    assert train(compose(*SMALL), root)[1].status == "finished"
    assert content(tmp_path / "run.json") == before
    assert not (tmp_path / "curves.png").samefile(folder.curves)


def test_a_lock_that_is_another_file_too_is_not_taken(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "elsewhere", tmp_path / "run" / LOCK)
    with pytest.raises(ConfigurationError, match=r"run\.lock has a second name"):
        locked(tmp_path / "run").__enter__()
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_only_the_lock_that_was_made_is_removed(tmp_path):
    with locked(tmp_path):
        (tmp_path / LOCK).unlink()
        (tmp_path / LOCK).write_text("another's")
    assert (tmp_path / LOCK).read_text() == "another's"


def test_a_draft_is_a_new_file(tmp_path):
    """A link that waits where the draft will be is not written through."""
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / f".run.json.{os.getpid()}.tmp").symlink_to(tmp_path / "elsewhere")
    replace_text(tmp_path / "run.json", "text")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert (tmp_path / "run.json").read_text() == "text"
    assert not (tmp_path / "run.json").is_symlink()


def test_only_drafts_of_ours_are_removed(tmp_path):
    for name in (".run.json.17.tmp", ".notes.tmp", "a.17.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.17.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(".notes.tmp", "a.17.tmp", ".folder.17.tmp"),
    }


def test_opening_looks_at_the_file_itself(tmp_path):
    """What is put there after the folder was looked at."""
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for mode in ("rb", "r+b", "a", "a+"):
        with pytest.raises(OSError, match="is a link, which is not followed"):
            open_own(tmp_path / "link", mode)
    with pytest.raises(ValueError, match="before it is looked at"):
        open_own(tmp_path / "elsewhere", "wb")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert problem_of(tmp_path / "link.ckpt") == "it was not finished: link.json is missing"


def test_a_comparisons_folder_holds_no_links_either(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/japanese_vowels/compare/rnn-vs-rnn_ln")
    folder.mkdir(parents=True)
    (folder / "compare.json").symlink_to(tmp_path / "elsewhere")
    settings = read_settings(["arms=[rnn,rnn_ln]", "seeds=1", "train=false", "cost=false"])
    with pytest.raises(ConfigurationError, match=r"compare\.json is a link"):
        comparing.run(settings)
    (folder / "compare.json").unlink()
    (folder / "compare.json").touch()
    with pytest.raises(RecordError, match=r"run\.json: a run's folder needs this file"):
        comparing.run(settings)  # it looked at the runs


def test_no_source_opens_a_runs_file_by_itself():
    """What the tests above cannot reach: another place where something is read or written."""
    opening = r"\.open\(|\bopen\(|\.(write|read)_(text|bytes)\(|\.touch\(|OmegaConf\.(load|save)\("
    safe = r'"/proc/|Path\(f"/proc|info\.read_text|files\("lnrnn|CONF / |OmegaConf\.load\(file\)'
    safe += r"|MACHINE\.read_text"  # /etc/machine-id
    folders = ("runs", "training", "study", "comparison")
    sources = [path for name in folders for path in (ROOT / "lnrnn" / name).rglob("*.py")]
    for path in sources:
        if path.name == "files.py" and path.parent.name == "runs":
            continue
        for line in path.read_text().splitlines():
            assert not re.search(opening, line) or re.search(safe, line), (path, line)
    assert len(sources) > 50
