"""Make the demo's two package files: the digits and the network's weights.

    python scripts/train_demo.py

Needs scikit-learn, for the digits only. Six minutes on one busy core (AMD EPYC, torch 2.13.0) gave, on 2,000
scenes each with held-out digits:

    accuracy                                                            0.9945
    both digits of two-digit scenes are the two highest classes         0.9850
    peak of the class activation map in the digit's box                 0.9995
    in two-digit scenes, peak of each digit's map in that digit's box   0.9980
"""

import argparse
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from heatproof.data.scenes import DIGITS, Scenes, scenes
from heatproof.models.demo import WEIGHTS, build
from heatproof.training.plain import train as train_plainly
from heatproof.types import Images

SOURCE = {
    "title": "Optical Recognition of Handwritten Digits: 1,797 images of 8x8, as in scikit-learn's load_digits",
    "authors": "E. Alpaydin, C. Kaynak",
    "source": "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
    "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "changes": "packed as integers, with a split into training and test digits",
}


def pack(path: Path = DIGITS) -> None:
    """Write scikit-learn's digits with their split: one in four is a test digit."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    shuffled = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    test = shuffled.argsort() < len(shuffled) // 4
    images, labels = (torch.from_numpy(part).to(torch.uint8) for part in (digits.images, digits.target))
    save_file({"images": images, "labels": labels, "test": test}, path, metadata=SOURCE)


def normalised(network: nn.Module, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """What the network takes, from pixels in [0, 1]."""
    mean, std = (torch.tensor(stat)[:, None, None] for stat in (network.mean, network.std))
    return (images - mean) / std


def rounds(seed: int) -> Iterator[tuple[Images, Float[Tensor, "batch 10"]]]:
    """Endless fresh training batches of 32 scenes, one in three with two digits (wanted: both, at one half each)."""
    generator = torch.Generator().manual_seed(seed)
    for number in count(1000 * seed):
        drawn = [scenes(64 * (3 - digits), number, "train", digits) for digits in (1, 2)]
        images = torch.cat([part.images for part in drawn])
        wanted = [F.one_hot(part.labels.view(len(part.images), -1), 10).float().mean(dim=1) for part in drawn]
        for chosen in torch.randperm(len(images), generator=generator).split(32):
            yield images[chosen], torch.cat(wanted)[chosen]


def train(steps: int, lr: float, seed: int) -> nn.Module:
    """Train on scenes that are never shown twice."""
    network = build(seed).train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    start = time.process_time()

    def loss(drawn: tuple[Images, Tensor], step: int) -> Tensor:
        images, wanted = drawn
        return F.cross_entropy(network(normalised(network, images)), wanted)

    def advance(done: int, loss: float) -> None:
        if done % 100 == 0:
            print(f"step {done}/{steps}: loss {loss:.3f}, {time.process_time() - start:.0f} s", flush=True)

    train_plainly(
        network, optimizer, schedule, lambda done: islice(rounds(seed), done, steps), loss, steps=steps, advance=advance
    )
    return network.eval().to(memory_format=torch.contiguous_format)


@torch.no_grad()
def accuracy(network: nn.Module, drawn: Scenes) -> float:
    """How often the highest logits are the scene's digits, all of them."""
    labels = drawn.labels.view(len(drawn.images), -1)
    logits = network(normalised(network, drawn.images))
    top = logits.topk(labels.shape[1], dim=1).indices
    return (top.sort(dim=1).values == labels.sort(dim=1).values).all(dim=1).double().mean().item()


@torch.no_grad()
def pointing(network: nn.Module, drawn: Scenes) -> float:
    """How often the class activation map of each digit, at the last stage, is highest inside that digit's box.

    With global average pooling and one linear layer this map is Grad-CAM's, up to its scale.
    """
    labels = drawn.labels.view(drawn.boxes.shape[:2])
    assert isinstance(network, nn.Sequential)
    features = network[:-3](normalised(network, drawn.images))
    weights = network.get_parameter("head.weight")[labels]
    maps = torch.einsum("nkc,nchw->nkhw", weights, features)
    pixel = F.interpolate(maps, size=drawn.images.shape[2:], mode="bilinear").flatten(2).argmax(dim=2)
    y, x = pixel // drawn.images.shape[3], pixel % drawn.images.shape[3]
    x1, y1, x2, y2 = drawn.boxes.unbind(2)
    return ((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)).double().mean().item()


def main() -> None:
    """Pack, train, measure on held-out digits, write."""
    parser = argparse.ArgumentParser(description="Make the demo's digits and weights.")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=8e-3)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums, and so the weights, must not depend on the number of cores
    pack()
    network = train(settings.steps, settings.lr, settings.seed)
    one, two = scenes(2000, seed=1), scenes(2000, seed=1, digits=2)
    result = {
        "accuracy": accuracy(network, one),
        "two_digits_top2": accuracy(network, two),
        "cam_in_box": pointing(network, one),
        "two_digits_cam_in_box": pointing(network, two),
    }
    for name, value in result.items():
        print(f"{name} {value:.4f}")
    metadata = {name: f"{value:.4f}" for name, value in result.items()} | {
        "made_by": "scripts/train_demo.py",
        "settings": " ".join(f"--{name} {value}" for name, value in vars(settings).items()),
    }
    save_file(network.state_dict(), WEIGHTS, metadata=metadata)
    print(f"wrote {DIGITS.name} ({DIGITS.stat().st_size} bytes), {WEIGHTS.name} ({WEIGHTS.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
