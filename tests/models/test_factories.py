"""Factories in files of the user's: each is its own, and what it raises is told as his."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import heatproof as hp
from heatproof.models.classifier import fingerprint

NETWORK = """
from torch import nn

WIDTH = {width}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.head(self.body(x))
"""
FACTORY = "from net import Net\n\ndef build():\n    return Net()\n"


def folder(place: Path, width: int, factory: str = FACTORY, **files: str) -> str:
    place.mkdir(parents=True)
    (place / "net.py").write_text(NETWORK.format(width=width))
    (place / "mine.py").write_text(factory)
    for name, text in files.items():
        (place / f"{name}.py").write_text(text)
    return f"{place}/mine.py:build"


def width(model: hp.Classifier) -> int:
    return model.network.get_parameter("head.weight").shape[1]


def test_modules_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 4), folder(tmp_path / "b", 6)
    before = list(sys.path), list(sys.meta_path)
    assert [width(hp.load(name)) for name in (a, b, a, b)] == [4, 6, 4, 6]
    assert (list(sys.path), list(sys.meta_path)) == before


def test_packages_and_their_relative_imports_are_told_apart(tmp_path: Path) -> None:
    names = []
    for count in (4, 6):
        package = tmp_path / str(count) / "zoo"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from .inner import Net\n")
        (package / "inner.py").write_text("from .net import Net, WIDTH\nfrom zoo import net\n")
        (package / "net.py").write_text(NETWORK.format(width=count))
        (package.parent / "mine.py").write_text("def build():\n    from zoo import Net\n    return Net()\n")
        names.append(f"{package.parent}/mine.py:build")
    assert [width(hp.load(name)) for name in names] == [4, 6]


LATE = """
from net import Net

class Late(Net):
    def forward(self, x):
        from scale import SCALE
        return super().forward(x) * 0 + SCALE

def build():
    return Late()
"""


def test_imports_in_a_forward_pass_are_the_folder_s_own(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 4, LATE, scale="SCALE = 1.0\n")
    b = folder(tmp_path / "b", 4, LATE, scale="SCALE = 2.0\n")
    models = [hp.load(name) for name in (a, b)]
    image = torch.rand(1, 3, 8, 8)
    assert [model(image)[0, 0].item() for model in (*models, *models)] == [1, 2, 1, 2]


def test_what_was_imported_before_is_no_part_of_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "notebook", 3)
    monkeypatch.syspath_prepend(str(tmp_path / "notebook"))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    import net  # type: ignore[import-not-found]

    assert width(hp.load(folder(tmp_path / "a", 5))) == 5
    assert sys.modules["net"] is net
    assert net.WIDTH == 3


def test_a_file_of_the_name_of_python_s_own_module_stays_beside_it(tmp_path: Path) -> None:
    name = folder(tmp_path / "a", 4, random="raise ValueError('this is not Python\\'s')\n")
    assert width(hp.load(name)) == 4


def test_a_factory_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    name = folder(tmp_path / "a", 4, "import net\nraise ValueError('oh no')\n")
    before = list(sys.path), list(sys.meta_path)
    with pytest.raises(hp.ModelError, match=r"mine.py:build failed: ValueError: oh no"):
        hp.load(name)
    assert (list(sys.path), list(sys.meta_path)) == before
    assert width(hp.load(folder(tmp_path / "b", 6))) == 6


ON_IT = "from torch import nn\ndef build():\n    network = nn.ReLU()\n    network.{} = {}\n    return network\n"
DATACLASS = """
from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class Settings:
    width: int = 7
    names: ClassVar[list[str]] = ["no", "yes"]
    more: list[int] = field(default_factory=list)


def build() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, Settings().width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 2))
    network.classes = Settings.names
    return network
"""


def test_dataclasses_with_annotations_as_texts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DATACLASS)
    model = hp.load(f"{tmp_path}/mine.py:build")
    assert model.network.get_parameter("0.weight").shape[0] == 7
    assert model.classes == ["no", "yes"]


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    name = folder(tmp_path / "me@home" / "v2", 4)
    model = hp.load(name)
    weights = tmp_path / "me@home" / "w@3.pth"
    torch.save({"model": model.network.state_dict()}, weights)
    assert fingerprint(hp.load(f"{name}@{weights}")) == fingerprint(model)
    assert hp.load(f"{name}@{weights}#model").name == "build@w@3#model"
    demo = hp.load("demo")
    torch.save(demo.network.state_dict(), weights)
    assert fingerprint(hp.load(f"demo@{weights}")) == fingerprint(demo)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def build(:\n", "failed: SyntaxError"),
        ("import nothing_called_so\n", "failed: ModuleNotFoundError: No module named 'nothing_called_so'"),
        ("def build():\n    raise RuntimeError('first\\nsecond')\n", r"failed: RuntimeError: first$"),
        ("def build():\n    raise KeyError()\n", "failed: KeyError: no reason given"),
        ("def build(width):\n    return width\n", r"failed: TypeError: build\(\) missing 1 required"),
        ("import sys\nsys.exit(3)\n", r"ended the program \(exit 3\).*__main__"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--x'])\n", r"ended the program \(exit 2\)"),
        ("def build():\n    return None\n", "must return an nn.Module or a Classifier, got NoneType"),
        ("def build():\n    return {'model': 3}\n", "got dict"),
        ("build = 3\n", "has no factory 'build'"),
        (ON_IT.format("mean", "'grey'"), "mean is a number for all channels or one for each, got 'grey'"),
        (ON_IT.format("std", "(0, 1, 1)"), "std positive"),
        (ON_IT.format("input_size", "'big'"), "cannot be read|number of pixels"),
        (ON_IT.format("classes", "3"), "classes are names in the order of the logits, .* got 3"),
    ],
)  # fmt: skip
def test_what_the_users_code_raises_is_told_as_his(code: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(hp.ModelError, match=said) as caught:
        hp.load(f"{tmp_path}/mine.py:build")
    assert "mine.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_may_take_its_folder_off_the_path(tmp_path: Path) -> None:
    before = list(sys.path)
    name = folder(tmp_path / "a", 4, f"import sys\nsys.path.remove({str(tmp_path / 'a')!r})\n{FACTORY}")
    assert width(hp.load(name)) == 4
    assert sys.path == before


def test_a_folder_that_cannot_be_listed_hands_out_its_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, listed = folder(tmp_path / "a", 4, ON_IT.format("note", 1)), Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert hp.load(name).network.note == 1
