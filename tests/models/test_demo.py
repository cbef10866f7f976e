import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heatproof
from heatproof.data.scenes import DIGITS, Scenes, scenes
from heatproof.models.demo import WEIGHTS, build, network


@pytest.fixture(scope="module")
def one() -> Scenes:
    return scenes(500, seed=0)


@pytest.fixture(scope="module")
def two() -> Scenes:
    return scenes(200, seed=0, digits=2)


def see(images):
    """Logits ``[N, 10]`` and the last stage's features ``[N, 96, 8, 8]``."""
    made = network()
    mean, std = (torch.tensor(stat)[:, None, None] for stat in (made.mean, made.std))
    with torch.no_grad():
        features = made[:7]((images - mean) / std)
        return made[7:](features), features


def test_it_is_the_network_it_says_it_is():
    made = network()
    assert sum(weight.numel() for weight in made.parameters()) == 269_562
    assert [name for name, _ in made.named_children()] == [f"stage{i}" for i in range(1, 8)] + [
        "pool",
        "flatten",
        "head",
    ]
    convs = [layer for layer in made.modules() if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [16, 32, 48, 64, 96, 96, 96]
    assert all(conv.kernel_size == (3, 3) for conv in convs)
    assert not any(module.training for module in made.modules())
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in made.parameters())
    assert made.input_size == 64
    assert made.classes == [str(digit) for digit in range(10)]
    assert see(torch.zeros(2, 3, 64, 64))[1].shape == (2, 96, 8, 8)


def test_making_it_leaves_the_random_numbers_alone_and_follows_the_seed():
    state = torch.get_rng_state()
    first, again, other = build(1).state_dict(), build(1).state_dict(), build(2).state_dict()
    network()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert build().training is False


def test_two_networks_share_no_weights():
    first, second = network(), network()
    with torch.no_grad():
        first.get_parameter("head.weight").zero_()
    assert second.get_parameter("head.weight").abs().sum() > 0


def test_it_names_digits_it_was_not_trained_on(one):
    logits, _ = see(one.images)
    assert (logits.argmax(1) == one.labels).double().mean() >= 0.99


def test_its_two_highest_classes_are_the_two_digits(two):
    logits, _ = see(two.images)
    top = logits.topk(2).indices.sort(dim=1).values
    assert (top == two.labels.sort(dim=1).values).all(dim=1).double().mean() >= 0.95


@pytest.mark.parametrize(("drawn", "least"), [("one", 0.98), ("two", 0.98)])
def test_the_class_activation_map_is_highest_on_the_digit(drawn, least, request):
    images, labels, boxes = request.getfixturevalue(drawn)
    labels = labels.view(boxes.shape[:2])
    _, features = see(images)
    maps = torch.einsum("nkc,nchw->nkhw", network().get_parameter("head.weight")[labels], features)
    peaks = F.interpolate(maps, size=(64, 64), mode="bilinear").flatten(2).argmax(dim=2)
    places = torch.stack([peaks % 64, peaks // 64], dim=2)
    hits = ((boxes[:, :, :2] <= places) & (places < boxes[:, :, 2:])).all(dim=2)
    assert hits.double().mean() >= least
    # the stage that is padded on one side keeps map and photo in register: no drift to any side
    drift = (places + 0.5 - (boxes[:, :, :2] + boxes[:, :, 2:]) / 2).mean(dim=(0, 1))
    assert drift.abs().max() < 2.5


def test_the_package_carries_at_most_three_megabytes():
    assert DIGITS.stat().st_size + WEIGHTS.stat().st_size < 1_400_000
    package = Path(heatproof.__file__).parent
    kept = [path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert sum(path.stat().st_size for path in kept) <= 3_000_000


def test_data_and_network_need_no_scikit_learn():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from heatproof.data.demo import photos; from heatproof.models.demo import network\n"
        "print(len(photos(count=1)), len(network().classes))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 10"
