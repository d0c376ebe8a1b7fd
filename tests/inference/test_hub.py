"""Models on the hub, against a local stand-in: pushed by the command, loaded by another process."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hub_stand_in import TOKEN, running_hub

import lnrnn
from lnrnn.inference.card import model_card
from lnrnn.inference.handed_out import CONFIG, WEIGHTS
from lnrnn.training import ConfigurationError


@pytest.fixture
def hub(request):
    with running_hub(getattr(request, "param", None)) as hub:
        yield hub


@pytest.fixture
def call(hub, tmp_path):
    """Run Python with the hub in place of the real one; return its exit code and all it says."""

    def call(*arguments: str, **environment: str) -> tuple[int, str]:
        own = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
        own |= {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        own |= {"HF_HUB_DISABLE_XET": "1"}  # of LFS's protocol, which the stand-in speaks
        answer = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **own, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        return answer.returncode, answer.stdout + answer.stderr

    return call


LOAD = "import lnrnn; m = lnrnn.load('hf://me/reviews'{}); print(m.predict('fine, lovely').labels)"


@pytest.mark.parametrize("hub", [None, 1000], ids=["whole", "pieces"], indirect=True)
def test_pushed_and_loaded(made, reviews, hub, call):
    """The weights go to another place than the rest, whole or in pieces, and come from there."""
    folder = made(*reviews)
    code, said = call("-m", "lnrnn", "push", f"run={folder.path}", "repo=me/reviews")
    assert code == 0, said
    ((commit, files),) = hub.repositories["me/reviews"]
    assert hub.private["me/reviews"]
    assert f"/me/reviews/commit/{commit}" in said
    assert files.keys() == {CONFIG, WEIGHTS, "README.md"}
    assert [*hub.objects.values()] == [files[WEIGHTS]]
    assert sum("PUT /pieces/" in line for line in hub.asked) == (
        0 if hub.part is None else -(-len(files[WEIGHTS]) // hub.part)
    )
    expected = lnrnn.load(folder.path).predict("fine, lovely").labels
    code, said = call("-c", LOAD.format(""))
    assert (code, said) == (0, f"{expected}\n")

    # Another model under the same name: a commit stays what it is, and the cache needs no hub.
    hub.repositories["me/reviews"].append(("f" * 40, {**files, CONFIG: b"{}"}))
    code, said = call("-c", LOAD.format(f", revision='{commit}'"))
    assert (code, said) == (0, f"{expected}\n")
    code, said = call("-c", LOAD.format(f", revision='{commit}'"), HF_HUB_OFFLINE="1")
    assert (code, said) == (0, f"{expected}\n")
    code, said = call("-c", LOAD.format(""))
    assert code != 0
    assert "is not a model of lnrnn" in said


def test_nothing_from_the_hub_is_executed(made, reviews, hub, call, tmp_path):
    code, said = call("-m", "lnrnn", "push", f"run={made(*reviews).path}", "repo=me/reviews")
    assert code == 0, said
    files = hub.repositories["me/reviews"][-1][1]
    content = json.loads(files[CONFIG])
    content["model"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'executed'}"}
    content["trust"] = ["os"]
    hostile = {**files, CONFIG: json.dumps(content).encode(), "lnrnn.py": b"raise SystemExit(99)"}
    hub.repositories["me/reviews"].append(("e" * 40, hostile))
    code, said = call("-c", LOAD.format(""))
    assert code == 1
    assert "names classes or functions of os" in said
    content["trust"] = []
    hub.repositories["me/reviews"].append(
        ("d" * 40, {**hostile, CONFIG: json.dumps(content).encode()})
    )
    code, said = call("-c", LOAD.format(""))
    assert (code, "os.system" in said) == (1, True)
    assert not (tmp_path / "executed").exists()
    assert not any("lnrnn.py" in line for line in hub.asked)  # only the two files are asked for


START = """
import sys
from experiments import compose
from lnrnn.training import ConfigurationError, train
words = [*sys.argv[2:], f"init_from='{sys.argv[1]}'", f"name=x{sys.argv[1][-4:].strip('@')}"]
try:
    print(train(compose(*words, "seed=5", "trainer.max_steps=2"))[1].init_from)
except ConfigurationError as error:
    sys.exit(str(error))
"""


def test_a_run_starts_with_weights_of_the_hub(made, reviews, hub, call):
    folder = made(*reviews)
    code, said = call("-m", "lnrnn", "push", f"run={folder.path}", "repo=me/reviews")
    assert code == 0, said
    commit, files = hub.repositories["me/reviews"][0]
    hostile = {**files, CONFIG: b'{"_target_": "os.system"}', "lnrnn.py": b"raise SystemExit(99)"}
    hub.repositories["me/reviews"] += [("e" * 40, hostile), ("d" * 40, {**files, WEIGHTS: b"no"})]
    paths = os.pathsep.join(sys.path)
    words = [*(w for w in reviews if not w.startswith("name=")), "model.hidden_size=8"]
    for revision in (commit, "e" * 40):  # of the second, too, nothing but the tensors is read
        address = f"hf://me/reviews@{revision}"
        code, said = call("-c", START, address, *words, PYTHONPATH=paths)
        assert code == 0, said
        assert hashlib.sha256(files[WEIGHTS]).hexdigest() in said
        assert f"'given': '{address}'" in said
    code, said = call("-c", START, "hf://me/reviews", *words, PYTHONPATH=paths)
    assert (code, "Traceback" in said) == (1, False), said
    assert "is damaged or not in safetensors" in said
    code, said = call("-c", START, "hf://me/reviews@", *words, PYTHONPATH=paths)
    assert (code, "behind the @ is a commit, a branch or a tag" in said) == (1, True), said
    assert not any("lnrnn.py" in line for line in hub.asked)


def test_what_the_hub_refuses_is_said(made, reviews, call):
    run = f"run={made(*reviews).path}"
    code, said = call("-m", "lnrnn", "push", run, "repo=me/reviews", HF_TOKEN="hf_wrong")
    assert (code, "hf auth login" in said, "Traceback" in said) == (1, True, False)
    code, said = call("-c", LOAD.format(""))
    assert (code, "me/reviews on the Hugging Face hub" in said) == (1, True)


@pytest.mark.parametrize("name", ["reviews", "me/../x", "/me/x", "me/x/y", "", "me/x y"])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigurationError, match="a repository of the hub is user/name"):
        lnrnn.load(f"hf://{name}")


def test_a_revision_is_of_the_hub(made, reviews):
    with pytest.raises(ConfigurationError, match="revision=main is for hf://"):
        lnrnn.load(made(*reviews).path, revision="main")


def test_the_card_says_what_it_is(made, reviews):
    folder = made(*reviews)
    model, record = lnrnn.load(folder.path), folder.read_record()
    card = model_card(model, "me/reviews")
    assert card.startswith("---\nlibrary_name: lnrnn\n")
    for words in (
        *('lnrnn.load("hf://me/reviews")', "rnn_ln, trained on table_files", '"against", "for"'),
        *(f"| test/accuracy | {record.metrics['test/accuracy']:.6g} |", "gain * (h - mean(h))"),
        *(str(record.commit), record.versions["torch"]),
    ):
        assert words in card
    model.about["model"] = "<script>x</script>\n# heading"
    assert "<script>" not in model_card(model, "me/reviews")
    assert "\n# heading" not in model_card(model, "me/reviews")
