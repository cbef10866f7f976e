"""Run folders as models: a stranger's folder never runs anything, and what it says is checked."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.command_line import heatproof

import heatproof as hp
from heatproof.models import record
from heatproof.models.classifier import fingerprint
from heatproof.models.record import bases

FACTORY = """
from pathlib import Path
from torch import nn

def build(width=4):
    Path({canary!r}).touch()
    network = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network.input_size = 12
    return network
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder whose base is a factory in a file that leaves a canary."""
    (tmp_path / "evil.py").write_text(FACTORY.format(canary=str(tmp_path / "canary")))
    (tmp_path / "mine.py").write_text(FACTORY.format(canary=str(tmp_path / "mine")))
    model = hp.load(f"{tmp_path}/mine.py:build")
    return a_run(tmp_path / "run", f"{tmp_path}/evil.py:build", model)


def a_run(folder: Path, base: object, model: hp.Classifier) -> Path:
    folder.mkdir()
    record = {"command": "fool", "settings": {}, "status": "complete", "format": 1, "seed": 0}
    (folder / "run.json").write_text(json.dumps({**record, "model": [{"name": base}]}))
    save_file(
        {name: value.contiguous() for name, value in model.network.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


def test_a_run_folder_runs_no_file(folder: Path) -> None:
    with pytest.raises(hp.ModelError, match=r"names a file of code.*which is not run.*--architecture FILE.py:FACTORY"):
        hp.load(str(folder))
    # nor through a folder that it is the base of
    upon = a_run(folder.parent / "upon", str(folder), hp.load(f"{folder.parent}/mine.py:build"))
    with pytest.raises(hp.ModelError, match="is not run"):
        hp.load(str(upon))
    assert not (folder.parent / "canary").exists()


def test_the_architecture_is_given_by_the_user(folder: Path) -> None:
    model = hp.load(str(folder), architecture=f"{folder.parent}/mine.py:build")
    assert not (folder.parent / "canary").exists()
    assert fingerprint(model) == fingerprint(hp.load(str(folder), trust_code=True))
    assert (folder.parent / "canary").exists()
    with pytest.raises(hp.ModelError, match="given for a run folder"):
        hp.load("demo", architecture="mine.py:build")


@pytest.mark.parametrize("verb", ["audit", "explain", "shift", "compare", "fool"])
def test_the_command_line_runs_no_file_either(
    verb: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = {
        "audit": ["audit", str(folder), "demo"],
        "explain": ["explain", "demo", "--model", str(folder), "--limit", "2", "--layer", "0"],
        "shift": ["shift", "demo", "--model", str(folder), "--limit", "2"],
        "compare": ["compare", str(folder), str(folder), "demo", "--limit", "2"],
        "fool": ["fool", "demo", "--model", str(folder), "--penalty", "location()"],
    }[verb]
    assert heatproof(*words, "--out", str(tmp_path / "out")) == 2
    assert "is not run" in capsys.readouterr().err
    assert heatproof(*words, "--out", str(tmp_path / "out"), "--architecture", f"{tmp_path}/none.py:build") == 2
    assert "there is no file" in capsys.readouterr().err
    if verb == "explain":
        assert heatproof(*words, "--out", str(tmp_path / "out"), "--architecture", f"{tmp_path}/mine.py:build") == 0
    assert not (tmp_path / "canary").exists()


def test_an_architecture_for_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", "demo", "--model", "demo", "--architecture", "mine.py:build", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 2
    assert "none of the models is one" in capsys.readouterr().err


def test_bases_that_are_none(tmp_path: Path) -> None:
    model = hp.load("demo")
    itself = a_run(tmp_path / "itself", str(tmp_path / "itself"), model)
    with pytest.raises(hp.ModelError, match="leads back to"):
        hp.load(str(itself))
    a_run(tmp_path / "a", str(tmp_path / "b"), model)
    b = a_run(tmp_path / "b", str(tmp_path / "a" / ".." / "a"), model)
    with pytest.raises(hp.ModelError, match="leads back to"):
        hp.load(str(b))
    for place, base in enumerate((None, 3, ["demo"], {}, "", "x" * 10_000)):
        with pytest.raises(hp.ModelError, match="does not say which model was fooled"):
            hp.load(str(a_run(tmp_path / str(place), base, model)))
    assert fingerprint(hp.load(str(a_run(tmp_path / "good", "demo", model)))) == fingerprint(model)


@pytest.mark.parametrize(
    "base",
    [
        "timm:resnet18(checkpoint_path='/etc/passwd')",
        "timm:resnet18(pretrained_cfg={'url': 'http://x'})",
        "resnet18(num_classes=1000000000)",
        "resnet18(colour='red')",
        "resnet18(" + "[" * 3000 + "]" * 3000 + ")",
    ],
)
def test_arguments_of_a_base_fetch_and_fill_nothing(base: str, tmp_path: Path) -> None:
    with pytest.raises(hp.ModelError):
        hp.load(str(a_run(tmp_path / "run", base, hp.load("demo"))))


@pytest.mark.parametrize(
    "planted",
    [
        {"layer": "stage5"},
        {"layer": "nowhere", "channels": 4, "rows": 4, "cols": 4, "head": []},
        {"layer": "stage5", "channels": 10**12, "rows": 4, "cols": 4, "head": ["head"]},
        {"layer": "stage5", "channels": 4, "rows": 4, "cols": 4, "head": ["nothing"]},
        {"layer": "stage5", "channels": 4, "rows": 4, "cols": 4, "head": "head"},
        {"layer": "", "channels": 4, "rows": 4, "cols": 4, "head": []},
        [1],
        "text",
    ],
)
def test_plantings_that_fit_nothing(planted: object, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "demo", hp.load("demo"))
    told = json.loads((run / "run.json").read_text())
    told["model"][0]["planted"] = planted
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises(hp.HeatproofError):
        hp.load(str(run))


def test_a_moved_folder_still_opens(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a[1]~", "demo", hp.load("demo"))
    shutil.move(run, tmp_path / "new\nline")
    assert isinstance(hp.load(str(tmp_path / "new\nline")), torch.nn.Module)


def test_a_record_too_long_to_be_one_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run", "demo", hp.load("demo"))
    assert bases(str(run)) == ["demo"]
    monkeypatch.setattr(record, "LONGEST_RECORD", 20)
    with pytest.raises(hp.ModelError, match="it is longer than 20 bytes"):
        hp.load(str(run))
    assert bases(str(run)) == []  # what cannot be read has none
