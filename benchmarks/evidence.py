"""AOPC against the forward passes it needs and against Quantus, ResNet-18: ``python -m benchmarks evidence``."""

import sys
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

import heatproof as hp
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.metrics.faithfulness import AOPC
from heatproof.models.hardware import Hardware
from heatproof.vision import torchvision

BATCH, SIZE, STEPS, REGION = 32, 224, 100, 16
QUIET: dict[str, Any] = {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False}


def model_and_images(count: int = BATCH) -> tuple[hp.Classifier, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    model = hp.Classifier(
        network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), default_layer="layer4", name="resnet18"
    )
    return model, torch.rand(count, 3, SIZE, SIZE), torch.rand(count, 7, 7), torch.zeros(count, dtype=torch.long)


def forwards(model: hp.Classifier, images: Tensor, steps: int) -> None:
    """What AOPC needs: one pass for the images, one for each step."""
    with torch.no_grad():
        for _ in range(steps + 1):
            model(images)


def ours(model: hp.Classifier, images: Tensor, heatmaps: Tensor, targets: Tensor, steps: int) -> Any:
    return AOPC(REGION, steps, fill=0.0).curves(model, images, heatmaps, targets)


def in_half(
    model: hp.Classifier, images: Tensor, heatmaps: Tensor, targets: Tensor, steps: int, hardware: Hardware
) -> Any:
    with hardware.autocast():
        return ours(model, images, heatmaps, targets, steps)


def quantus(model: hp.Classifier, images: Tensor, heatmaps: Tensor, targets: Tensor, steps: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from quantus import RegionPerturbation

        metric = RegionPerturbation(
            patch_size=REGION,
            regions_evaluation=steps,
            order="morf",
            perturb_baseline=0.0,  # pyright: ignore[reportArgumentType] a number, says the docstring
            **QUIET,
        )
        large = hp.resize(heatmaps, (SIZE, SIZE))[:, None]
        return metric(
            model=model,
            x_batch=images.numpy(),
            y_batch=targets.numpy(),
            a_batch=large.numpy(),
            device="cpu",
            batch_size=BATCH,
        )


def aopc_against_quantus(runs: int, steps: int = STEPS) -> str:
    model, *given = model_and_images()
    half, images, heatmaps, targets = model_and_images()
    hardware = Hardware("cpu", "bf16")
    half, last = hardware.host(half), hardware.bring(images)
    jobs = {
        "the forward passes alone": partial(forwards, model, given[0], steps),
        "heatproof": partial(ours, model, *given, steps),
        "heatproof, bf16 and channels_last": partial(in_half, half, last, heatmaps, targets, steps, hardware),
        "quantus 0.6.0": partial(quantus, model, *given, steps),
    }
    seconds = interleaved(jobs, runs, warmup=0 if runs < 3 else 1)
    plain, peer = seconds["the forward passes alone"], seconds["quantus 0.6.0"]
    rows = [
        (name, f"{value:.1f} s", f"{value / plain:.2f}x", f"{peer / value:.2f}x") for name, value in seconds.items()
    ]
    title = f"AOPC, {steps} regions of {REGION} x {REGION}, ResNet-18, {BATCH} images of {SIZE} pixels, CPU"
    return table(title, rows, ("", "time", "in forward passes", "faster than Quantus"))


def _prepared(count: int) -> Any:
    """For the memory: AOPC of so many images, a batch at a time."""
    model, images, heatmaps, targets = model_and_images(4)
    metric = AOPC(REGION, 3, fill=0.0, at_once=16)
    metric(model, images, heatmaps, targets)

    def job() -> None:
        for _ in range(0, count, 4):
            metric(model, images, heatmaps, targets)

    return job


def constant_memory() -> str:
    counts = (8, 32, 128)
    peaks = [peak_memory(partial(_prepared, count)) for count in counts]
    rows = [(f"{count} images", f"{peak:.0f} MiB") for count, peak in zip(counts, peaks, strict=True)]
    return table("Memory of AOPC over the data set, batches of 4", rows, ("", "above what is set up"))


def main(runs: int = 1, steps: int = STEPS) -> None:
    print(aopc_against_quantus(runs, steps), flush=True)
    print(constant_memory(), flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
