"""What n noisy copies cost beside n plain maps, on a ResNet-18 at 32 pixels: ``python -m benchmarks defences``."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import heatproof as hp
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.defences.certified_pixels import CertifiedPixels
from heatproof.defences.median import MedianOfNoisy
from heatproof.defences.smoothed import Smoothed
from heatproof.defences.sparsified import Sparsified
from heatproof.types import Explainer
from heatproof.vision import torchvision

PHOTOS, N, SIZE, TOGETHER = 2, 32, 32, 32
"""Photos, noisy copies of each, pixels a side, and images in one forward pass."""
INSIDE: dict[str, Explainer] = {"gradcam()": hp.GradCAM(), "simple_grad()": hp.SimpleGrad()}


def model_and_images() -> tuple[hp.Classifier, Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    network.set_submodule("maxpool", nn.Identity())
    model = hp.Classifier(network.eval(), input_size=SIZE, default_layer="layer4", name="resnet18")
    return model, torch.rand(PHOTOS, 3, SIZE, SIZE)


def defended(inside: Explainer) -> dict[str, Explainer]:
    return {
        "smoothed": Smoothed(inside, n=N, at_once=TOGETHER),
        "median of noisy": MedianOfNoisy(inside, n=N, at_once=TOGETHER),
        "sparsified": Sparsified(inside, n=N, at_once=TOGETHER),
        "certified pixels": CertifiedPixels(inside, n=N, tau=0.6, at_once=TOGETHER),
    }


def plain(inside: Explainer, model: hp.Classifier, images: Tensor) -> None:
    """As many maps of photos that are there already, in batches as large."""
    copies = images.repeat_interleave(N, 0)
    targets = torch.zeros(TOGETHER, dtype=torch.long)
    for part in copies.split(TOGETHER):
        inside(model, part, targets)


def once(explainer: Explainer, model: hp.Classifier, images: Tensor) -> None:
    explainer(model, images)


def prepared(at_once: int) -> Callable[[], object]:
    model, images = model_and_images()
    explainer = Smoothed(n=N, at_once=at_once)
    explainer(model, images[:1])
    return partial(once, explainer, model, images)


def main() -> None:
    model, images = model_and_images()
    rows = []
    for name, inside in INSIDE.items():
        jobs: dict[str, Callable[[], object]] = {"plain": partial(plain, inside, model, images)}
        jobs |= {title: partial(once, one, model, images) for title, one in defended(inside).items()}
        seconds = interleaved(jobs, runs=7, clock=time.process_time)
        count = N * PHOTOS
        rows += [
            (name, title, f"{count / taken:.0f}", f"{seconds['plain'] / taken:.2f}") for title, taken in seconds.items()
        ]
    heads = ("explainer", "defence", "noisy maps a second of the processor", "of plain throughput")
    print(table(f"{N} noisy copies of {PHOTOS} photos of {SIZE} pixels, ResNet-18", rows, heads))
    memory = [(f"{at_once}", f"{peak_memory(partial(prepared, at_once)):.0f} MiB") for at_once in (8, 32, 64)]
    print(table(f"Memory of smoothed(gradcam(), n={N}) of {PHOTOS} photos", memory, ("at_once", "peak")))
