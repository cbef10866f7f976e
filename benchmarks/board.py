"""What a column of the board costs beside its bare passes, ResNet-18 at 32 pixels: ``python -m benchmarks board``."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import heatproof as hp
from benchmarks.timing import interleaved, table
from heatproof.attacks.gradient import PGD
from heatproof.attacks.noise import RandomSign
from heatproof.data.sources import open_data
from heatproof.defences.smoothed import Smoothed
from heatproof.metrics.faithfulness import AOPC
from heatproof.results.run import Run
from heatproof.studies.board.lies import Fooling, Lies
from heatproof.studies.board.measure import MEASURES
from heatproof.studies.board.networks import Network, Row
from heatproof.studies.board.unit import Budgets, Opened, Unit, goal_of, key_of
from heatproof.types import Explainer
from heatproof.vision import torchvision

PHOTOS, COPIES, SIZE = 4, 4, 32


def opened() -> Opened:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    network.set_submodule("maxpool", nn.Identity())
    model = hp.Classifier(network.eval(), input_size=SIZE, default_layer="layer4", name="resnet18")
    images = torch.rand(PHOTOS, 3, SIZE, SIZE)
    ids = [str(number) for number in range(PHOTOS)]
    own = Network("resnet18", "demo", "demo", 4, "small")
    photos = open_data("demo", limit=8)
    return Opened("resnet18", "resnet18", own, model, ids, images, photos, True, photos)


def bare(column: str, model: hp.Classifier, images: Tensor, explainer: Explainer, budgets: Budgets) -> None:
    """The attack or the metric, and the map that it needs, as one would call them."""
    # a noisy row takes two photos at once, so that its graph fits the memory
    for part in images.split(2):
        clean = explainer(model, part) if column == "clean and AOPC" else None
        if clean is not None:
            measure = AOPC(region=4, steps=budgets.removals, ragged=True)
            measure(model, part, clean.heatmaps, clean.targets)
            continue
        moved = (
            RandomSign(budgets.epsilon)(lambda images: images.sum((1, 2, 3)), part)
            if column == "noise"
            else PGD(budgets.epsilon, budgets.steps)(goal_of(model, explainer), part)
        )
        explainer(model, moved)


def ours(unit: Unit, column: str) -> None:
    if column == "clean and AOPC":
        unit._made.clear()
        for file in unit.run.path("kept").glob("*"):
            file.unlink()
    MEASURES[{"clean and AOPC": "aopc"}.get(column, column)](unit, 0)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, Run.start(Path(folder) / "run", command="study", settings={}) as run:
        board, budgets = opened(), Budgets(steps=3)
        explainer = Smoothed(n=COPIES)
        unit = Unit(run, board, Row("gradcam", "smoothed", explainer), budgets, Lies(run, Fooling(), key_of))
        unit.clean(0)
        for column in ("noise", "pgd", "clean and AOPC"):
            jobs: dict[str, Callable[[], object]] = {
                "bare": partial(bare, column, board.model, board.images, explainer, budgets),
                "column": partial(ours, unit, column),
            }
            taken = interleaved(jobs, runs=3, clock=time.process_time)
            rows.append((column, f"{taken['column'] / taken['bare']:.2f}x", "1.15x"))
    heads = ("column", "of its bare passes", "at most")
    print(table(f"smoothed(gradcam(), n={COPIES}) of {PHOTOS} photos of {SIZE} pixels, ResNet-18", rows, heads))
