"""Users' own networks on the command line: a sensible table, or one sentence; never a traceback."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.command_line import heatproof

# several seconds each, and more than a hundred
pytestmark = pytest.mark.slow

FACTORIES = """
from types import SimpleNamespace

import torch
from torch import nn


def body(channels=3, outputs=2):
    torch.manual_seed(0)
    first, second = nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    layers = [first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs)]
    return nn.Sequential(*layers)


def told(network, size=32, classes=("no", "yes")):
    network.mean, network.std, network.input_size = (0.5,), (0.5,), size
    network.classes = classes and list(classes)
    return network.eval()


class Around(nn.Module):
    def __init__(self, change, **of_the_body):
        super().__init__()
        self.body, self.change = body(**of_the_body), change

    def forward(self, x):
        return self.change(self.body, x)


def around(change, **of_the_body):
    return told(Around(change, **of_the_body))


def plain():
    return told(body())


def one_logit():
    return told(body(outputs=1))


def flat():
    return around(lambda body, x: body(x).squeeze(1), outputs=1)


def grey():
    return told(body(channels=1))


def six():
    return told(body(channels=6))


def half():
    return told(body().half())


def double():
    return told(body().double())


def as_dict():
    return around(lambda body, x: {"logits": body(x), "features": x})


def as_object():
    return around(lambda body, x: SimpleNamespace(logits=body(x), loss=None))


def as_tuple():
    return around(lambda body, x: (x.mean(), body(x)))


def keyed():
    network = as_tuple()
    network.logits_key = 1
    return network


def sigmoid():
    return around(lambda body, x: body(x).sigmoid(), outputs=1)


def softmax():
    return around(lambda body, x: body(x).softmax(1))


def said(network):
    network.probabilities = True
    return network


def said_sigmoid():
    return said(sigmoid())


def said_labels():
    return said(around(lambda body, x: body(x).sigmoid()))


def said_softmax():
    return said(softmax())


def itself():
    return around(lambda body, x: body((x - 0.5) / 0.25))


def detector():
    def detect(body, x):
        score = body(x).sigmoid()
        boxes, labels = torch.tensor([[0.0, 0, 16, 16], [8, 8, 32, 32]]), torch.tensor([0, 1])
        return [{"boxes": boxes, "labels": labels, "scores": row} for row in score]

    return around(detect)


def segmentation_dict():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = Around(lambda body, x: {"out": body(x), "aux": x})
    network.body = layers
    return told(network)


def strange_dict():
    return around(lambda body, x: {"speed": body(x)})


def two_inputs():
    network = plain()
    network.forward = lambda x, y: nn.Sequential.forward(network, x + y)
    return network


def video():
    torch.manual_seed(0)
    return told(nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)))


def frames():
    return around(lambda body, x: body(x)[:, :, None, None, None])


def segmentation():
    torch.manual_seed(0)
    return told(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)))


def flattened():
    return told(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)))


def fixed_size():
    return told(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)))


def fails():
    def failing(body, x):
        raise ValueError("only on Tuesdays")

    return around(failing)


def no_gradient():
    return around(lambda body, x: body(x.detach()).detach())


def not_a_number():
    return around(lambda body, x: body(x) * float("nan"))


def three_names():
    return told(body(), classes=("a", "b", "c"))


def unnamed():
    return told(body(), classes=None)


def wide():
    return told(body(), size=(24, 48))
"""
VERBS: dict[str, list[str]] = {
    "explain": ["explain", "{data}", "--model", "{model}"],
    "shift": ["shift", "{data}", "--model", "{model}", "--attack", "fgsm()", "--epsilon", "0.02"],
    "fool": ["fool", "{data}", "--model", "{model}", "--penalty", "location()", "--steps", "2", "--batch-size", "4"],
    "compare": ["compare", "{model}", "{model}", "{data}"],
    "audit": ["audit", "{model}", "{data}", "--limit", "4"],
    "evaluate": ["evaluate", "{model}", "{data}", "--limit", "4"],
}
WITH_ALL = (
    *("plain", "one_logit", "grey", "six", "half", "double", "as_dict", "as_object", "as_tuple", "keyed"),
    *("two_inputs", "frames", "video", "sigmoid", "softmax", "said_sigmoid", "said_labels", "said_softmax"),
)
WITH_TWO = ("flat", "segmentation", "segmentation_dict", "detector", "flattened", "fails", "no_gradient", "itself")
WITH_ONE = ("strange_dict", "fixed_size", "not_a_number", "three_names", "unnamed", "wide")
LINES = [
    *((verb, name) for name in WITH_ALL for verb in VERBS),
    *((verb, name) for name in WITH_TWO for verb in ("explain", "shift")),
    *(("shift", name) for name in WITH_ONE),
]
WORK = {
    *("plain", "one_logit", "flat", "grey", "half", "double", "as_dict", "as_object", "unnamed", "keyed", "itself"),
    *("said_sigmoid", "said_labels", "said_softmax"),
}
"""What is a classifier of photos, in whatever clothes."""
REFUSED = {("compare", kind) for kind in ("said_sigmoid", "said_labels", "said_softmax", "as_object")}
"""compare's own explainers have LRP among them, which starts at logits in a tensor, a dict or a tuple."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of four photos."""
    place, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("no", "yes"):
        (place / name).mkdir()
        for number in range(4):
            pixels = draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def factories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("odd") / "odd.py"
    file.write_text(FACTORIES)
    return file


def test_these_are_more_than_fifty_lines() -> None:
    assert len(LINES) == 130


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("verb", "name"), LINES)
def test_a_table_or_a_sentence(verb: str, name: str, data: Path, factories: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    words = [word.format(data=data, model=f"{factories}:{name}") for word in VERBS[verb]]
    status = heatproof(*words, "--out", str(out))
    said = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in said)
    if status == 0 or (verb == "audit" and (out / "report.html").is_file()):
        summary = json.loads((out / "summary.json").read_text())
        assert summary
        rows = summary.get("rows", [])
        numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
        assert all(math.isfinite(value) for value in numbers)
        assert (out / "report.html").is_file()
    else:
        assert status in (1, 2)
        told = [line for line in said if line.startswith("heatproof: ")]
        assert len(told) == 1, said
        assert len(told[0]) < 900
        assert name not in WORK or (verb, name) in REFUSED, told[0]


SCORES = {
    "segmentation": "over_mask()",
    "segmentation_dict": "over_mask()",
    "detector": "detection(2, box=(0, 0, 16, 16))",
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", SCORES)
def test_a_score_reads_maps_and_detections(
    verb: str, name: str, data: Path, factories: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    words = [word.format(data=data, model=f"{factories}:{name}") for word in VERBS[verb]]
    words += ["--explainer", "simple_grad()" if name == "detector" else "gradcam()"]
    status = heatproof(*words, "--score", SCORES[name], "--out", str(out))
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert status == 0 or (verb == "audit" and status == 1), said
    assert (out / "report.html").is_file()
