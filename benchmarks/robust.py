"""A step of each robust training against plain fine-tuning, ResNet-18, 32 pixels: ``python -m benchmarks robust``."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import heatproof as hp
from benchmarks.defences import SIZE, model_and_images
from benchmarks.timing import interleaved, table
from heatproof.models.altered import Alteration, alter
from heatproof.robust.methods import SSR, Adversarial, Alignment, Hessian, Method, Plain, Thickness, WeightDecay
from heatproof.robust.train import prepare

BATCH = 64
LR = 1e-6  # the weights stay where they are
FEWEST = 80
"""Photos, of which a tenth is held out."""
CASES: dict[str, tuple[Method, str, str]] = {
    "plain": (Plain(), "plain fine-tuning", "1.1x"),
    "alignment": (Alignment(), "plain fine-tuning", "3.3x"),
    "alignment, softplus": (Alignment(beta=10.0), "the same with softplus", "3.3x"),
    "hessian, softplus": (Hessian(), "the same with softplus", "3.3x"),
    "hessian of all photos": (Hessian(share=1.0), "the same with softplus", ""),
    "thickness (R2ET)": (Thickness(), "plain fine-tuning", "2.2x"),
    "ssr": (SSR(), "plain fine-tuning", ""),
    "adversarial, 3 steps": (Adversarial(), "plain fine-tuning", ""),
    "weight decay": (WeightDecay(), "plain fine-tuning", ""),
}
"""By name: the method, what its step is measured by, and what it may cost of that."""


def plain(beta: float | None = None) -> Callable[[], object]:
    """Forward, cross-entropy, backward, Adam: what a fine-tuning step costs without any method."""
    model, images, labels = batch()
    if beta is not None:
        alter(model, Alteration(softplus=beta))
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def batch() -> tuple[hp.Classifier, torch.Tensor, torch.Tensor]:
    model, _ = model_and_images()
    return model, torch.rand(BATCH, 3, SIZE, SIZE), torch.arange(BATCH)


def defended(method: Method) -> Callable[[], object]:
    """A step of our own loop."""
    model, _, _ = batch()
    data = torch.rand(FEWEST, 3, SIZE, SIZE), torch.arange(FEWEST)
    recipe = hp.FineTune(steps=1, batch_size=BATCH, lr=LR, weight=1.0)
    loop = prepare(model, hp.SimpleGrad(), data, method, recipe)
    optimizer, fed = loop.optimizer(), next(iter(loop.setup.feeds.train.stream(BATCH, 1, seed=0)))
    return lambda: loop.step(optimizer, fed, None)


def main(runs: int = 7) -> None:
    jobs = {"plain fine-tuning": plain(), "the same with softplus": plain(10.0)}
    jobs |= {name: defended(method) for name, (method, _, _) in CASES.items()}
    # of the processor's own time, for the machine may do much else
    seconds = interleaved(jobs, runs, clock=time.process_time)
    rows = [(name, base, f"{seconds[name] / seconds[base]:.2f}x", bar) for name, (_, base, bar) in CASES.items()]
    heads = ("training", "measured by", "a step, of that", "at most")
    print(table(f"A step of a robust training, ResNet-18, batch {BATCH}, {SIZE} pixels", rows, heads))


if __name__ == "__main__":
    main()
