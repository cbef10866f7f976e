"""Maps of a ViT-S/16, batch 8, 224 pixels, in passes, and beside LXT: ``python -m benchmarks transformers``."""

import importlib
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lrp import backward, forward
from benchmarks.timing import interleaved, peak_memory, table
from heatproof.explainers.attention import AttentionRollout, Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.classifier import Classifier
from heatproof.models.twice import twice_differentiable
from heatproof.types import Explainer
from heatproof.vision import torchvision

BATCH, SIZE = 8, 224
FORWARD, BACKWARD, CP_LRP = "plain forward pass", "forward + backward to the pixels", "CP-LRP"
FUSED = "forward pass, attention fused, with a graph"
MEASURED_BY: dict[str, tuple[str, str]] = {
    "Grad-CAM": (FORWARD, "1.05"),
    "attention rollout": (FORWARD, ""),
    "Chefer": (BACKWARD, "1.3"),
    "AttnLRP": (BACKWARD, "2.5"),
    CP_LRP: (BACKWARD, ""),
    "LXT, CP-LRP": (BACKWARD, ""),
    "forward pass, attention opened": (FUSED, "1.15"),
}
"""What each is measured by, and what it may cost of that."""


def model_and_images() -> tuple[Classifier, Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(SIZE, 16, 12, 6, 384, 1536).eval()
    nn.init.normal_(network.heads[0].weight, std=0.02)  # pyright: ignore[reportArgumentType]
    return Classifier(network, input_size=SIZE, name="vit_s_16"), torch.rand(BATCH, 3, SIZE, SIZE)


def explained(explainer: Explainer, model: Classifier, images: Tensor) -> object:
    return explainer(model, images)


def in_a_graph(opened: bool, model: Classifier, images: Tensor) -> object:
    with twice_differentiable(opened):
        return model(images)


def lxt_patches() -> Any:
    """LXT's patches without the package around them, which imports what transformers 5 no longer has."""
    import lxt

    package = ModuleType("lxt.efficient")
    package.__path__ = [str(Path(lxt.__path__[0]) / "efficient")]
    sys.modules["lxt.efficient"] = package
    return importlib.import_module("lxt.efficient.patches")


@contextmanager
def patched(patches: Any) -> Generator[None]:
    """torchvision's modules as LXT patches them for CP-LRP."""
    kinds = (nn.GELU, nn.LayerNorm, nn.MultiheadAttention)
    before = {kind: kind.forward for kind in kinds}
    patches.patch_method(patches.non_linear_forward, nn.GELU, keep_original=True)
    patches.patch_method(patches.layer_norm_forward, nn.LayerNorm)
    patches.patch_method(patches.cp_multi_head_attention_forward, nn.MultiheadAttention, keep_original=True)
    try:
        yield
    finally:
        for kind, method in before.items():
            kind.forward = method  # type: ignore[method-assign]


def lxt(patches: Any, model: Classifier, images: Tensor) -> object:
    with patched(patches):
        pixels = images.clone().requires_grad_()
        return pixels * torch.autograd.grad(model(pixels).amax(1).sum(), pixels)[0]


def jobs() -> dict[str, Callable[[Classifier, Tensor], object]]:
    return {
        FORWARD: forward,
        BACKWARD: backward,
        FUSED: partial(in_a_graph, False),
        "forward pass, attention opened": partial(in_a_graph, True),
        "Grad-CAM": partial(explained, GradCAM()),
        "attention rollout": partial(explained, AttentionRollout()),
        "Chefer": partial(explained, Chefer()),
        "AttnLRP": partial(explained, LRP(composite="attnlrp")),
        CP_LRP: partial(explained, LRP(composite="cp_lrp")),
        "LXT, CP-LRP": partial(lxt, lxt_patches()),
    }


def prepared(name: str) -> Callable[[], object]:
    """For the memory: the job on a model and images that are already there, after one image has warmed it up."""
    model, images = model_and_images()
    job = jobs()[name]
    job(model, images[:1])
    return partial(job, model, images)


def main(runs: int = 5) -> None:
    model, images = model_and_images()
    # of the processor's own time, for the machine may do much else
    ready = {name: partial(job, model, images) for name, job in jobs().items()}
    seconds = interleaved(ready, runs, clock=time.process_time)
    rows = [
        (name, base, f"{seconds[name] / seconds[base]:.2f}x", f"{bar}x" if bar else "")
        for name, (base, bar) in MEASURED_BY.items()
    ]
    print(table(f"ViT-S/16, batch {BATCH}, {SIZE} pixels", rows, ("", "measured by", "of that", "at most")), flush=True)
    memory = [(name, f"{peak_memory(partial(prepared, name)):.0f} MiB") for name in (BACKWARD, CP_LRP, "LXT, CP-LRP")]
    print(table("Peak memory", memory, ("", "over what was there")))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
