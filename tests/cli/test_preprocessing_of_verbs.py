"""Every verb on networks that are not RGB, not square, or not of single precision."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.command_line import heatproof

FACTORY = """
import torch
from torch import nn

def made(channels, size, dtype=torch.float32):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )
    network.mean, network.std, network.classes = (0.5,), (0.25,), ["dark", "light"]
    network.input_size = size
    return network.to(dtype)

def grey(): return made(1, (32, 48))
def six(): return made(6, 32)
def half(): return made(3, 32, torch.float16)
def double(): return made(3, 32, torch.float64)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "nets.py").write_text(FACTORY)
    draw = np.random.default_rng(0)
    for kind, ending in (("grey", "png"), ("six", "npy"), ("rgb", "png")):
        for label, level in (("dark", 60), ("light", 180)):
            where = folder / kind / label
            where.mkdir(parents=True)
            for number in range(6):
                if ending == "npy":
                    np.save(where / f"{number}.npy", (level + draw.integers(0, 60, (6, 40, 44))).astype(np.uint8))
                elif kind == "grey":
                    values = (level + draw.integers(0, 60, (40, 44))) * 256
                    Image.fromarray(values.astype(np.uint16)).save(where / f"{number}.png")
                else:
                    Image.fromarray((level + draw.integers(0, 60, (40, 44, 3))).astype(np.uint8)).save(
                        where / f"{number}.png"
                    )
    return folder


KINDS = {"grey": "grey", "six": "six", "half": "rgb", "double": "rgb"}


@pytest.mark.parametrize("verb", ["explain", "shift", "audit", "evaluate"])
@pytest.mark.parametrize("kind", KINDS)
def test_they_work(kind: str, verb: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, data, out = f"{place / 'nets.py'}:{kind}", str(place / KINDS[kind]), str(tmp_path / "out")
    words = {
        "explain": ("explain", data, "--model", model, "--limit", "2"),
        "shift": ("shift", data, "--model", model, "--epsilon", "0.05", "--limit", "4"),
        "audit": ("audit", model, data, "--batch-size", "6"),
        "evaluate": ("evaluate", model, data, "--metric", "aopc(region=8, steps=4)", "--limit", "4"),
    }[verb]
    status = heatproof(*words, "--out", out, "--device", "cpu")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # two classes, and networks unlike those of the thresholds: no verdict, which is no failure of the photos
    assert status == (1 if summary.get("verdict") == "cannot tell" else 0), capsys.readouterr().err
    assert summary["skipped"] == []


@pytest.mark.parametrize("kind", ["grey", "six"])
def test_they_are_fooled_and_compared(kind: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, data = f"{place / 'nets.py'}:{kind}", str(place / KINDS[kind])
    words = ("--penalty", "location()", "--steps", "3", "--batch-size", "4", "--held-out", data)
    fooled = str(tmp_path / "fooled")
    assert heatproof("fool", data, "--model", model, *words, "--out", fooled, "--device", "cpu") == 0, (
        capsys.readouterr().err
    )
    recorded = json.loads((tmp_path / "fooled" / "run.json").read_text())["model"][0]["preprocessing"]
    assert recorded["size"] == ([32, 48] if kind == "grey" else [32, 32])
    assert (
        heatproof(
            "compare", model, fooled, data, "--architecture", model, "--out", str(tmp_path / "c"), "--device", "cpu"
        )
        == 0
    ), capsys.readouterr().err


def test_flags_say_how_photos_come(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, out = f"{place / 'nets.py'}:grey", tmp_path / "out"
    flags = ("--input-size", "24x40", "--resize", "30", "--fit", "squash", "--interpolation", "bicubic")
    more = ("--channels", "1", "--range", "0:40000", "--limit", "2", "--device", "cpu")
    assert heatproof("explain", str(place / "grey"), "--model", model, *flags, *more, "--out", str(out)) == 0
    run = json.loads((out / "run.json").read_text())
    assert run["model"][0]["preprocessing"] == {
        "size": [24, 40],
        "resize": [30, 50],
        "fit": "squash",
        "interpolation": "bicubic",
        "channels": 1,
        "range": [0.0, 40000.0],
    }
    assert run["settings"]["photos"]["fit"] == "squash"
    capsys.readouterr()
    assert (
        heatproof("explain", str(place / "grey"), "--model", model, "--range", "5", "--out", str(tmp_path / "no")) == 2
    )
    assert "--range is BLACK:WHITE" in capsys.readouterr().err
