"""What the tests of the documentation share: its Python files, and photos, tables and networks of the names it uses."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

MINE = """
import torch
from torch import nn

import heatproof as hp

NAMES = ["bull mastiff", "tiger cat", "goldfish"]


class Network(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer3 = nn.Sequential(nn.Conv2d(3, width, 5, stride=2, padding=2), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(width, len(NAMES))

    def forward(self, x):
        return self.fc(self.pool(self.layer4(self.layer3(x))).flatten(1))


def _made(seed, network=Network):
    torch.manual_seed(seed)
    return network()


def build():
    return hp.Classifier(_made(0), mean=0.5, std=0.25, classes=NAMES, input_size=64)


def other():
    return hp.Classifier(_made(1), mean=0.5, std=0.25, classes=NAMES, input_size=64)


def embedding():
    return hp.Classifier(_made(2), mean=0.5, std=0.25, input_size=64)


def segments():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 2, 1))
    return hp.Classifier(network, mean=0.5, std=0.25, classes=["ground", "square"], input_size=64)
"""


def docs_module(name: str) -> ModuleType:
    """A Python file of the documentation's folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_world(folder: Path) -> None:
    """Fill a folder."""
    draw = np.random.default_rng(0)

    def photo(file: str, size: int = 64) -> None:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)

    for name in ("bull mastiff", "tiger cat", "goldfish"):
        for number in range(5):
            photo(f"photos/{name}/{number}.png")
    photo("dog.jpg", 96)
    for number in range(2):
        photo(f"scenes/{number}.png")
    for number in range(2):
        grey = draw.integers(0, 4095, (120, 400), dtype=np.uint16)
        (folder / "scans").mkdir(exist_ok=True)
        Image.fromarray(grey).save(folder / f"scans/{number}.png")
    Image.fromarray(np.uint8(np.indices((64, 64)).sum(0) < 40) * 255).save(folder / "mask.png")
    ids = [f"{name}/{number}.png" for name in ("bull mastiff", "tiger cat") for number in range(5)]
    with (folder / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "x1", "y1", "x2", "y2"])
        table.writerows([image, 0.1, 0.1, 0.6, 0.6] for image in ids)
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "reference", "same"])
        table.writerows([f"photos/{a}", f"photos/{b}", int(a[0] == b[0])] for a, b in zip(ids, ids[::-1], strict=True))
    (folder / "mine.py").write_text(MINE)
    from heatproof.models.loading import load

    weights = load(str(folder / "mine.py:build")).network.state_dict()
    torch.save(
        {"model": weights, "model_ema": {key: value * 0.9 for key, value in weights.items()}}, folder / "last.pth"
    )
