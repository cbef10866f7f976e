"""What each verb asks of a network for a photo: passes counted, and their time beside that of a plain forward pass.

    python scripts/cost_per_photo.py PHOTOS --model NAME --photos 32

Passes are counted where photos enter the network and where gradients leave it. Times are of the processor alone (one
thread, ``time.process_time``), since they are to be compared, and other jobs run beside. Nothing is drawn, so that what
is told grows with the photos.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from heatproof import catalog, spec
from heatproof.commands.audit.run import Audit, run_audit
from heatproof.commands.compare.run import Compare, run_compare
from heatproof.commands.compare.summary import Fooled
from heatproof.commands.evaluate.run import Evaluate, run_evaluate
from heatproof.commands.passes import counting
from heatproof.commands.photos import open_photos
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.random_map import RandomMap
from heatproof.explainers.together import explain_together
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.processes import Processes
from heatproof.results.run import Run
from heatproof.shard import Shard

Verb = Callable[[Classifier, Source, Run, dict[str, Any]], object]


def metrics(*texts: str) -> tuple[Any, ...]:
    return tuple(spec.build(text, catalog.METRICS, "metric") for text in texts)


def shift(*texts: str) -> Verb:
    asked = Shift(attacks=tuple(spec.build(text, catalog.ATTACKS, "attack") for text in texts))
    return lambda model, source, run, more: run_shift(asked, [model], lambda _: source, run, draw=False, **more)


def evaluate(*texts: str) -> Verb:
    asked = Evaluate(explainers=(GradCAM(), RandomMap()), metrics=metrics(*texts))
    return lambda model, source, run, more: run_evaluate(asked, model, source, run, draw=False, **more)


VERBS: dict[str, Verb] = {
    "shift, fgsm at 4 epsilons": shift("fgsm()"),
    "shift, pgd(steps=10) at 4 epsilons": shift("pgd(steps=10)"),
    "compare, one fooled model": lambda model, source, run, more: run_compare(
        Compare(), model, [Fooled(model, None)], source, run, **more
    ),
    "audit, 180 passes": lambda model, source, run, more: run_audit(Audit(), model, source, run, draw=False, **more),
    "evaluate, aopc of 2 explainers": evaluate("aopc(region=16)"),
    "evaluate, randomisation of 2 explainers": evaluate("randomisation()"),
}
"""All but the end, which is left out as in a shard."""


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measure(model: Classifier, source: Source, out: Callable[[str], object]) -> None:
    """A line for each verb: forward and backward passes a photo, and the time a photo in plain forward passes."""
    loaded = list(batches(source, model.preprocessing, 16))
    images = [batch.images for batch in loaded]
    photos = sum(map(len, images))

    def forward() -> None:
        with torch.inference_mode():
            for batch in images:
                model(batch)

    def gradient() -> None:
        for batch in images:
            given = batch.clone().requires_grad_()
            (slope,) = torch.autograd.grad(model(given).amax(1).sum(), given)
            assert slope.shape == given.shape

    def maps() -> None:
        for batch in images:
            explain_together(model, batch, [GradCAM()])

    def reading() -> None:
        for _ in batches(source, model.preprocessing, 16, workers=1):
            pass

    forward()
    plain = min(seconds(forward) for _ in range(3)) / photos
    out(f"{model.name}: a forward pass {plain * 1e3:.1f} ms a photo, of the processor, in batches of 16")
    for name, work in {
        "forward and backward, to the pixels": gradient,
        "Grad-CAM": maps,
        "reading, decoding, resizing": reading,
    }.items():
        out(f"{name:44} {'':>8} {'':>8} {min(seconds(work) for _ in range(2)) / photos / plain:8.2f}")
    for name, verb in VERBS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Run.start(Path(folder) / "run", command=name, settings={}, shard=Shard(1, 2))
            # a shard's processes leave the end out; this one is given all parts
            everything = _All()
            with run, counting(model) as passes:
                took = seconds(lambda: verb(model, source, run, {"processes": everything}))  # noqa: B023
        told = f"{passes.forward / photos:8.2f} {passes.backward / photos:8.2f} {took / photos / plain:8.2f}"
        out(f"{name:44} {told}")


class _All(Processes):
    """A shard that does all parts."""

    def __init__(self) -> None:
        super().__init__(job=Shard(1, 2))

    def parts(self, total: int) -> range:
        return range(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--photos", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.model)
    source = open_photos(model, given.data, limit=given.photos, labels_needed=False)
    measure(model, source, lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush())


if __name__ == "__main__":
    main()
