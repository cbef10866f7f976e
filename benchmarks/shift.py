"""FGSM + both Grad-CAMs + NISSIM on ResNet-50, batch 16, 224 pixels, and PGD-10: ``python -m benchmarks.shift``."""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import heatproof as hp
from benchmarks.explain import BATCH, SIZE, forward, model_and_images
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.attacks.gradient import PGD
from heatproof.attacks.objectives import misclassify
from heatproof.commands.shift.measure import Shift, attacked
from heatproof.commands.shift.run import run_shift
from heatproof.data.listing import Listing
from heatproof.data.sources import Source
from heatproof.metrics.similarity import nissim
from heatproof.models.hardware import Hardware
from heatproof.results import Run

EPSILON = 0.01
LABELS = torch.arange(BATCH)


def ours(model: hp.Classifier, images: Tensor, hardware: Hardware) -> Tensor:
    """The audit's own path: one clean pass for maps and gradient, one adversarial pass for maps."""
    clean, adversarial = attacked(Shift(epsilons=(EPSILON,)), model, images, LABELS, hardware)
    return nissim(clean.grid.heatmaps[0][:, 0], adversarial.grid.heatmaps[0][:, 0], size=SIZE)


def together(model: hp.Classifier, images: Tensor) -> Tensor:
    """The same job put together from torchattacks, pytorch-grad-cam and scikit-image."""
    import torchattacks
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from skimage.metrics import structural_similarity

    with torch.no_grad():
        targets: Any = [ClassifierOutputTarget(int(c)) for c in model(images).argmax(1)]
    adversarial = torchattacks.FGSM(model, eps=EPSILON)(images, LABELS)
    with GradCAM(model, [model.network.get_submodule("layer4")]) as cam:
        before, after = cam(images, targets), cam(adversarial, targets)
    settings: dict[str, Any] = {
        "data_range": 1.0,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    alike: list[Any] = [structural_similarity(a, b, **settings) for a, b in zip(before, after, strict=True)]
    return torch.tensor((1 - np.array(alike)) / 2)


def shift_against_peers(runs: int) -> str:
    model, images = model_and_images()
    half, _ = model_and_images()
    bf16 = Hardware("cpu", "bf16")
    half = bf16.host(half)
    pixels = images.clone().requires_grad_()

    def backward() -> None:
        torch.autograd.grad(model(pixels).amax(1).sum(), pixels)

    seconds = interleaved(
        {
            "plain": partial(forward, model, images),
            "backward": backward,
            "ours": partial(ours, model, images, Hardware("cpu")),
            "bf16": partial(ours, half, images, bf16),
            "peers": partial(together, model, images),
        },
        runs,
    )
    plain, needed = seconds["plain"], 2 * seconds["plain"] + seconds["backward"]
    mods = [float(ours(model, images, Hardware("cpu")).mean()), float(ours(half, images, bf16).mean())]
    rows = [
        ("a plain forward pass", "1.00x", ""),
        ("forward + backward to the pixels", f"{seconds['backward'] / plain:.2f}x", ""),
        ("what the job needs: 2 forward, 1 forward + backward", f"{needed / plain:.2f}x", "1.00x"),
        ("heatproof", f"{seconds['ours'] / plain:.2f}x", f"{seconds['ours'] / needed:.2f}x"),
        ("heatproof, bf16 and channels_last", f"{seconds['bf16'] / plain:.2f}x", f"{seconds['bf16'] / needed:.2f}x"),
        (
            "torchattacks + pytorch-grad-cam + scikit-image",
            f"{seconds['peers'] / plain:.2f}x",
            f"{seconds['peers'] / needed:.2f}x",
        ),
        ("heatproof faster than these", f"{seconds['peers'] / seconds['ours']:.2f}x", ""),
        ("heatproof in bf16 faster than these", f"{seconds['peers'] / seconds['bf16']:.2f}x", ""),
        ("MOD in fp32 and in bf16", f"{mods[0]:.4f}, {mods[1]:.4f}", ""),
    ]
    title = f"FGSM + both Grad-CAMs + NISSIM, ResNet-50, batch {BATCH}"
    return table(title, rows, ("", "in forward passes", "of what the job needs"))


def pgd_against_torchattacks(runs: int) -> str:
    import torchattacks

    model, images = model_and_images()
    size = images[: BATCH // 4]
    goal = misclassify(model, LABELS[: len(size)])
    theirs = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10)
    seconds = interleaved(
        {
            "torchattacks": lambda: theirs(size, LABELS[: len(size)]),
            "the last image": partial(PGD(keep="last"), goal, size),
            "the best image": partial(PGD(), goal, size),
        },
        max(3, runs // 2),
    )
    rows = [(name, f"{value / seconds['torchattacks']:.3f}x") for name, value in seconds.items()]
    return table(f"PGD-10, ResNet-50, batch {len(size)}: what is handed out", rows, ("", "time against torchattacks"))


def _stream(count: int, attacking_only: bool) -> Callable[[], object]:
    """An audit of ``count`` drawn photos by a small network, up to the last photo or to its end."""
    from heatproof.models import demo

    model = hp.Classifier(demo.build(), classes=[str(digit) for digit in range(10)], input_size=64, name="demo")

    def draw(place: int) -> Tensor:
        return torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(place))

    def source(count: int) -> Source:
        listing = Listing([f"{i}" for i in range(count)], [i % 10 for i in range(count)], draw, lambda i: b"")
        return Source("drawn", listing, range(count))

    def run(count: int) -> None:
        done = 0

        def advance(photos: float) -> None:
            nonlocal done
            done += photos
            if attacking_only and done >= count:
                raise KeyboardInterrupt

        with (
            contextlib.suppress(KeyboardInterrupt),
            tempfile.TemporaryDirectory() as folder,
            Run.start(f"{folder}/out", command="shift", settings={}) as made,
        ):
            asked, hardware = Shift(part=16), Hardware("cpu")
            run_shift(asked, [model], lambda _: source(count), made, hardware=hardware, draw=False, advance=advance)

    run(64)
    return partial(run, count)


def memory_of_a_stream(runs: int) -> str:
    rows = []
    for count in (250, 1000, 4000):
        peaks = [peak_memory(partial(_stream, count, only)) for only in (True, False)]
        rows.append((str(count), *(f"{peak:.0f} MiB" for peak in peaks)))
    title = "Memory of an audit against the number of photos, 4 epsilons: peak above the start"
    return table(title, rows, ("photos", "while attacking", "with the table and its intervals"))


def main(runs: int = 7) -> None:
    for part in (shift_against_peers, pgd_against_torchattacks, memory_of_a_stream):
        print(part(runs), flush=True)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
