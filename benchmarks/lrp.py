"""LRP on ResNet-50 and VGG-16, batch 8, 224 pixels, against zennit: ``python -m benchmarks lrp``."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleaved, peak_memory, table
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.classifier import Classifier
from heatproof.vision import torchvision

BATCH, SIZE = 8, 224
LAST = {"resnet50": "layer4", "vgg16": "features.29"}
Job = Callable[[Classifier, Tensor], object]


def model_and_images(name: str) -> tuple[Classifier, Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    model = Classifier(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), default_layer=LAST[name], name=name)
    return model, torch.rand(BATCH, 3, SIZE, SIZE)


def forward(model: Classifier, images: Tensor) -> object:
    with torch.no_grad():
        return model(images)


def backward(model: Classifier, images: Tensor) -> object:
    pixels = images.clone().requires_grad_()
    return torch.autograd.grad(model(pixels).amax(1).sum(), pixels)


def ours(model: Classifier, images: Tensor, **setting: Any) -> object:
    return LRP(**setting)(model, images)


def zennit(model: Classifier, images: Tensor, composite: str) -> object:
    from zennit.attribution import Gradient
    from zennit.composites import COMPOSITES
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizer = ResNetCanonizer() if model.name.startswith("resnet") else VGGCanonizer()
    rules = COMPOSITES[composite](canonizers=[canonizer])
    pixels = ((images - model.mean) / model.std).requires_grad_()
    with Gradient(model=model.network, composite=rules) as attributor:
        return attributor(pixels, lambda output: output * F.one_hot(output.argmax(1), output.shape[1]))


PASSES: dict[str, Job] = {
    "plain forward pass": forward,
    "forward + backward to the pixels": backward,
    "LRP, alpha1-beta0": ours,
    "zennit EpsilonPlus": partial(zennit, composite="epsilon_plus"),
    "LRP, epsilon_plus": partial(ours, composite="epsilon_plus"),
    "zennit EpsilonAlpha2Beta1": partial(zennit, composite="epsilon_alpha2_beta1"),
    "LRP, alpha2-beta1": partial(ours, composite="alpha2beta1"),
}


def _prepared(name: str, job: Job) -> Callable[[], object]:
    """For the memory: the job on a model and images that are already there, after one image has warmed it up."""
    model, images = model_and_images(name)
    job(model, images[:1])
    return partial(job, model, images)


def against_zennit(name: str, runs: int) -> str:
    model, images = model_and_images(name)
    seconds = interleaved({title: partial(job, model, images) for title, job in PASSES.items()}, runs)
    memory = {title: peak_memory(partial(_prepared, name, job)) for title, job in PASSES.items()}
    plain = seconds["plain forward pass"]
    rows = [(title, f"{seconds[title] / plain:.2f}", f"{memory[title]:.0f} MiB") for title in PASSES]
    return table(f"LRP to the pixels, {name}, batch {BATCH}", rows, ("", "in plain forward passes", "peak memory"))


def at_the_last_layer(name: str, runs: int) -> str:
    """LRP_T costs little more than the forward pass, alone and inside a training step."""
    model, images = model_and_images(name)
    labels, explain = torch.arange(BATCH), LRP(layer="default")

    def step(loss: Callable[[], Tensor]) -> None:
        model.zero_grad()
        loss().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-9)

    def fooling() -> Tensor:
        found = explain(model, images, labels, create_graph=True)
        return F.cross_entropy(found.logits, labels) + found.heatmaps.square().mean()

    seconds = interleaved(
        {
            "plain forward pass": partial(forward, model, images),
            "LRP_T": partial(explain, model, images),
            "plain training step": partial(step, lambda: F.cross_entropy(model(images), labels)),
            "training step with a loss on LRP_T": partial(step, fooling),
        },
        runs,
    )
    rows = [
        ("LRP_T / plain forward pass", f"{seconds['LRP_T'] / seconds['plain forward pass']:.3f}"),
        (
            "training step with a loss on LRP_T / plain training step",
            f"{seconds['training step with a loss on LRP_T'] / seconds['plain training step']:.3f}",
        ),
    ]
    return table(f"LRP at {LAST[name]}, {name}, batch {BATCH}", rows, ("", ""))


def main(runs: int = 5) -> None:
    for name in LAST:
        for part in (against_zennit, at_the_last_layer):
            print(part(name, runs), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
