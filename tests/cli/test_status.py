"""The exit statuses: what does not exist is wrong usage in every verb, and leaves nothing behind."""

from pathlib import Path

import pytest
from tests.command_line import heatproof

OF_MODEL = {
    "explain": ["explain", "demo", "--model", "MODEL"],
    "shift": ["shift", "demo", "--model", "MODEL"],
    "fool": ["fool", "demo", "--penalty", "location()", "--model", "MODEL"],
    "repair": ["repair", "demo", "--model", "MODEL"],
    "compare": ["compare", "MODEL", "demo", "demo"],
    "audit": ["audit", "MODEL", "demo"],
    "evaluate": ["evaluate", "MODEL", "demo"],
    "list": ["list", "layers", "MODEL"],
}


@pytest.mark.parametrize(
    ("verb", "offered"),
    [(verb, True) for verb in ("explain", "shift", "compare", "audit", "evaluate")]
    + [(verb, False) for verb in ("fool", "repair", "defend", "demo", "study")],
)
def test_help_offers_shards_where_they_can_be_made(verb: str, offered: bool, capsys: pytest.CaptureFixture) -> None:
    assert heatproof(verb, "--help") == 0
    assert ("--shard" in capsys.readouterr().out) == offered


@pytest.mark.parametrize("words", [["fool", "demo", "--model", "demo", "--penalty", "location()"], ["demo"]])
def test_a_shard_of_what_cannot_be_shared_is_refused_with_its_reason(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert heatproof(*words, "--shard", "1/2") == 2
    assert "--shard 1/2 is of no use here: " in " ".join(capsys.readouterr().err.split())


def test_the_help_says_that_no_verdict_is_1(capsys: pytest.CaptureFixture) -> None:
    assert heatproof("--help") == 0
    assert "1 failed on the way, or an audit without a verdict," in " ".join(capsys.readouterr().out.split())
    assert heatproof("audit", "--help") == 0
    assert "1 where no verdict can be given" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", OF_MODEL)
def test_an_unknown_model_is_wrong_usage(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("MODEL", "resnt50") for word in OF_MODEL[verb]]
    assert heatproof(*words) == 2
    assert "did you mean resnet50" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", sorted(OF_MODEL.keys() - {"list"}))
def test_an_unknown_layer_is_wrong_usage_and_leaves_nothing(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("MODEL", "demo") for word in OF_MODEL[verb]]
    assert heatproof(*words, "--explainer", "gradcam(layer='stge7')") == 2
    assert "did you mean stage7" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["list", "attacks"], 0),
        (["shift", "nowhere", "--model", "demo"], 2),
        (["explain", "demo", "--model", "demo", "--target", "aple"], 2),
        (["explain", "demo", "--model", "timm:resnt50"], 2),
        (["explain", "demo", "--model", "nowhere.py:build"], 2),
        (["explain", "demo", "--model", "resnet18(weights='V9')"], 2),
        (["compare", "demo", "nowhere", "demo"], 2),
        (["nonsense"], 2),
    ],
)
def test_status(
    words: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert heatproof(*words) == status
    assert "Traceback" not in capsys.readouterr().err
    # a folder where nothing was done is not left behind
    assert list(tmp_path.iterdir()) == []


def test_names_as_papers_write_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", "demo", "--model", "demo", "--limit", "1", "--top", "1"]
    given = ["--explainer", "grad-cam", "--explainer", "gradcam++", "--explainer", "Grad-CAM++(relu=False)"]
    assert heatproof(*words, *given, "--json", "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert [name in told for name in ('"GradCAM()"', '"GradCAMPlusPlus()"', '"GradCAMPlusPlus(relu=False)"')] == [
        True
    ] * 3
    assert heatproof(*words, "--explainer", "gradcamm", "--out", str(tmp_path / "no")) == 2
    assert "did you mean gradcam" in capsys.readouterr().err
