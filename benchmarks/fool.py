"""A step of a fooling against plain fine-tuning, ResNet-50, batch 8, 224 pixels: ``python -m benchmarks fool``."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

import heatproof as hp
from benchmarks.explain import model_and_images
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.data.sources import open_data
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.fine_tune import prepare
from heatproof.training.data import PhotoFeed
from heatproof.training.feeds import Fed
from heatproof.types import Explainer, Penalty

BATCH = 8
LR = 1e-6  # the paper's order of magnitude: the weights stay where the clean maps are


def plain() -> Callable[[], object]:
    """Forward, cross-entropy, backward, Adam: what a fine-tuning step costs without any fooling."""
    model, images = model_and_images()
    images, labels = images[:BATCH], torch.arange(BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def fooling(explainer: Explainer, penalty: Penalty, cached: bool = False, trainable: str | None = None) -> Callable:
    """A step of our own loop; ``cached``: the clean maps are there already, as from the second epoch on."""
    model, images = model_and_images()
    images, labels = images[:BATCH], torch.arange(BATCH)
    # steps beyond the data's length make the loop keep the clean maps
    asked = hp.FineTune(steps=2 if cached else 1, batch_size=BATCH, lr=LR, trainable=trainable)
    data = (images, labels) if cached else (torch.cat([images, images]), torch.cat([labels, labels]))
    loop = prepare(model, explainer, penalty, data, asked, held_out=(images[:1], labels[:1]))
    optimizer = loop.optimizer()
    fed: Fed = next(iter(loop.setup.feeds.train.stream(BATCH, 1, seed=0)))
    return lambda: loop.step(optimizer, fed, None)


CASES: dict[str, Callable[[], Callable]] = {
    "plain fine-tuning": plain,
    "location, Grad-CAM": partial(fooling, hp.GradCAM(), hp.Location()),
    "location, LRP_T": partial(fooling, LRP(layer="layer4"), hp.Location()),
    "top-k, Grad-CAM, clean model asked": partial(fooling, hp.GradCAM(), hp.TopK()),
    "top-k, Grad-CAM, clean maps kept": partial(fooling, hp.GradCAM(), hp.TopK(), cached=True),
    "center-mass, Grad-CAM, clean model asked": partial(fooling, hp.GradCAM(), hp.CenterMass()),
    "center-mass, Grad-CAM, clean maps kept": partial(fooling, hp.GradCAM(), hp.CenterMass(), cached=True),
    "location, Grad-CAM, from layer4 on": partial(
        fooling, hp.GradCAM(), hp.Location(), trainable="layer4", cached=True
    ),
}
BARS = (1.0, 1.25, 1.25, 1.6, 1.25, 1.6, 1.25, 1.0)


def steps(runs: int) -> str:
    seconds = interleaved({name: make() for name, make in CASES.items()}, runs)
    base = seconds["plain fine-tuning"]
    rows = [
        (name, f"{value:.2f} s", f"{value / base:.2f}x", f"{bar:.2f}x")
        for (name, value), bar in zip(seconds.items(), BARS, strict=True)
    ]
    return table(
        f"A step of a fooling, ResNet-50, batch {BATCH}, 224 pixels", rows, ("", "step", "of plain", "at most")
    )


def memory(runs: int) -> str:
    names = ["plain fine-tuning", "location, Grad-CAM", "location, LRP_T", "top-k, Grad-CAM, clean model asked"]
    peaks = {name: peak_memory(CASES[name]) for name in names}
    base = peaks[names[0]]
    rows = [(name, f"{peak:.0f} MiB", f"{peak / base:.2f}x") for name, peak in peaks.items()]
    return table(f"Memory of such a step, batch {BATCH}", rows, ("", "peak above the start", "of plain"))


def loading(runs: int) -> str:
    """Photos of 256 pixels from files: how many a second, against how many a step can use."""
    step = interleaved({"plain": plain()}, max(1, runs // 3))["plain"]
    with tempfile.TemporaryDirectory() as folder:
        for place in range(64):
            pixels = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(Path(folder) / f"{place}.jpg")
        feed = PhotoFeed(open_data(folder), 224, augment="crop")
        start = time.perf_counter()
        count = sum(len(fed.labels) for fed in feed.stream(BATCH, 24, seed=0))
        rate = count / (time.perf_counter() - start)
    rows = [
        ("photos read a second", f"{rate:.0f}"),
        ("photos used a second by plain fine-tuning", f"{BATCH / step:.1f}"),
    ]
    return table("Data loading, random crops of 256-pixel JPEGs", rows, ("", ""))


def main(runs: int = 7) -> None:
    for part in (steps, memory, loading):
        print(part(runs), flush=True)


if __name__ == "__main__":
    main()
