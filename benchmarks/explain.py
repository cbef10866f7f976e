"""Grad-CAM and its relatives on ResNet-50, batch 16, 224 pixels: ``python -m benchmarks explain``."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import heatproof as hp
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.models.hardware import Hardware
from heatproof.vision import torchvision

BATCH, SIZE = 16, 224


def model_and_images() -> tuple[hp.Classifier, Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    model = hp.Classifier(
        network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), default_layer="layer4", name="resnet50"
    )
    return model, torch.rand(BATCH, 3, SIZE, SIZE)


def forward(model: hp.Classifier, images: Tensor) -> object:
    with torch.no_grad():
        return model(images)


def ours(model: hp.Classifier, images: Tensor) -> object:
    return hp.GradCAM()(model, images)


def captum(model: hp.Classifier, images: Tensor) -> object:
    from captum.attr import LayerGradCam

    return LayerGradCam(model, model.network.get_submodule("layer4")).attribute(
        images, torch.zeros(len(images), dtype=torch.long, device=images.device)
    )


def torchcam(model: hp.Classifier, images: Tensor) -> object:
    from torchcam.methods import GradCAM

    with GradCAM(model, target_layer="network.layer4") as extractor:
        return extractor([0] * len(images), model(images))


def pytorch_grad_cam(model: hp.Classifier, images: Tensor) -> object:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [model.network.get_submodule("layer4")]) as cam:
        return cam(images, [ClassifierOutputTarget(0)] * len(images))  # pyright: ignore[reportArgumentType] typed too narrowly


def _prepared(job: Callable[[hp.Classifier, Tensor], object]) -> Callable[[], object]:
    """For the memory: the job on a model and images that are already there, after one image has warmed it up."""
    model, images = model_and_images()
    job(model, images[:1])
    return partial(job, model, images)


PEERS: dict[str, Callable[[hp.Classifier, Tensor], object]] = {
    "plain forward pass": forward,
    "heatproof": ours,
    "captum": captum,
    "torchcam": torchcam,
    "pytorch-grad-cam": pytorch_grad_cam,
}


def gradcam_against_peers(runs: int) -> str:
    model, images = model_and_images()
    seconds = interleaved({name: partial(job, model, images) for name, job in PEERS.items()}, runs)
    memory = {name: peak_memory(partial(_prepared, job)) for name, job in PEERS.items()}
    plain, bytes_ = seconds["plain forward pass"], memory["plain forward pass"]
    rows = [(name, f"{seconds[name] / plain:.2f}x", f"{memory[name] / bytes_:.2f}x") for name in PEERS]
    return table(f"Grad-CAM at layer4, ResNet-50, batch {BATCH}", rows, ("", "time", "peak memory"))


def several_at_once(runs: int) -> str:
    """T classes x L layers cost one forward and the heads, SmoothGrad its passes."""
    model, images = model_and_images()
    layers = [hp.GradCAM("layer3"), hp.GradCAM("layer4"), hp.GradCAM("layer4", relu=False)]
    few = images[:2]
    pixels = few.clone().requires_grad_()

    def passes() -> None:
        for _ in range(16):
            torch.autograd.grad(model(pixels).amax(1).sum(), pixels)

    jobs: dict[str, Callable[[], Any]] = {
        "plain forward pass": partial(forward, model, images),
        "5 classes x layer4, with and without ReLU": partial(hp.explain_together, model, images, layers[1:], top=5),
        "5 classes x layer3 and layer4": partial(hp.explain_together, model, images, layers, top=5),
    }
    seconds = interleaved(jobs, max(5, runs - 2))
    rows = [(name, f"{value / seconds['plain forward pass']:.2f} forward passes") for name, value in seconds.items()]
    noisy = interleaved({"passes": passes, "smooth": partial(hp.SmoothGrad(), model, few)}, max(5, runs - 2))
    share = noisy["smooth"] / noisy["passes"]
    rows.append(("SmoothGrad, 16 samples (batch 2)", f"{share:.2f} of 16 forward + backward passes"))
    return table("Several maps at once, ResNet-50", rows, ("", "time"))


def half_precision(runs: int) -> str:
    model, images = model_and_images()
    half, _ = model_and_images()
    hardware = Hardware("cpu", "bf16")
    half, last = hardware.host(half), hardware.bring(images)

    def in_half() -> hp.Explanation:
        with hardware.autocast():
            return hp.GradCAM()(half, last, targets)

    targets = torch.zeros(BATCH, dtype=torch.long)
    full = partial(hp.GradCAM(), model, images, targets)
    seconds = interleaved({"fp32": full, "bf16": in_half}, runs)
    from scipy.stats import spearmanr

    agreement: list[Any] = [
        spearmanr(a.flatten(), b.flatten())[0]
        for a, b in zip(
            hp.GradCAM(relu=False)(model, images, targets).heatmaps, _signed(half, last, targets, hardware), strict=True
        )
    ]
    rows = [
        ("throughput against fp32", f"{seconds['fp32'] / seconds['bf16']:.2f}x"),
        ("rank correlation with fp32, mean", f"{sum(agreement) / len(agreement):.4f}"),
        ("rank correlation with fp32, worst image", f"{min(agreement):.4f}"),
    ]
    return table("bf16 with channels_last, Grad-CAM, ResNet-50", rows, ("", ""))


def _signed(model: hp.Classifier, images: Tensor, targets: Tensor, hardware: Hardware) -> Tensor:
    with hardware.autocast():
        return hp.GradCAM(relu=False)(model, images, targets).heatmaps


def main(runs: int = 7) -> None:
    for part in (gradcam_against_peers, several_at_once, half_precision):
        print(part(runs), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
