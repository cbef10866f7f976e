"""Pictures of a robust training: its course, overlap against accuracy, and maps under attack before and after."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from heatproof.commands.defend.measure import Judged
from heatproof.data.batches import batches
from heatproof.data.sources import Source, limited
from heatproof.models.hardware import Hardware
from heatproof.report.figures import Panel, gallery
from heatproof.report.plots import Curve, curve_of, curves
from heatproof.results.run import Run
from heatproof.results.table import SummaryRow
from heatproof.results.viewer import View, add_view
from heatproof.robust.attack import MapAttack
from heatproof.robust.train import WATCHING
from heatproof.training.history import History
from heatproof.types import Explainer, is_signed


def draw_course(history: History, before: float, run: Run) -> None:
    """``figures/course.png``: accuracy on the held-out photos and overlap under attack at every evaluation."""
    looks = history.looks
    if len(looks) < 2:
        return
    at = [row["step"] for row in looks]
    overlap = f"overlap under {WATCHING.steps} steps of PGD"
    names = {"top-1 accuracy": "accuracy", "agreement with the given network": "agreement", overlap: "overlap"}
    curves(
        {name: (at, [row[column] for row in looks]) for name, column in names.items()},
        run.path("figures/course.png"),
        xlabel="step",
        ylabel="mean over held-out photos (up)",
        title=f"The training; the weights after step {history.best} were handed out",
        references={"accuracy before": before},
        marks={f"handed out: step {history.best}": history.best},
        ylim=(0, 1.02),
    )


def draw_trade(networks: Sequence[Judged], rows: Sequence[SummaryRow], run: Run) -> None:
    """``figures/overlap.png``: overlap of the highest cells against accuracy, a point per network and epsilon."""
    series: dict[str, Curve] = {}
    for epsilon in sorted({row.by["epsilon"] for row in rows}):
        found: Mapping[str, SummaryRow] = {row.by["network"]: row for row in rows if row.by["epsilon"] == epsilon}
        for network in networks:
            name = f"{network.name}, {255 * epsilon:.3g}/255"
            series[name] = curve_of([100 * network.accuracy], [found[network.name].means["overlap"]])
    curves(
        series,
        run.path("figures/overlap.png"),
        xlabel="top-1 accuracy on the held-out photos, in % (up)",
        ylabel="overlap of the highest cells (up)",
        ylim=(0, 1.02),
    )


def draw_maps(
    explainer: Explainer,
    shown: int,
    networks: Sequence[Judged],
    attack: MapAttack,
    source: Source,
    run: Run,
    hardware: Hardware,
) -> None:
    """``figures/defended.png`` and the viewer: the map of each network, and what an attack makes of it."""
    signed, chosen = is_signed(explainer), limited(source, max(shown, 1), attack.seed)
    panels: list[list[Panel]] = []
    for batch in batches(chosen, networks[0].model.preprocessing, max(shown, 1)):
        images = hardware.bring(batch.images)
        with torch.no_grad(), hardware.autocast():
            targets = networks[0].model(images).argmax(1)
        columns: list[list[Panel]] = [
            [
                Panel(_photo(image), caption=networks[0].model.class_name(int(target)))
                for image, target in zip(batch.images, targets, strict=True)
            ]
        ]
        for network in networks:
            with hardware.autocast():
                moved = attack(network.model, explainer, images, targets)
            overlap = attack.overlap(moved).tolist()
            for name, found, seen in (
                ("as it is", moved.clean, batch.images),
                ("attacked", moved.attacked, moved.images.cpu()),
            ):
                maps = found.heatmaps.detach().float().cpu().numpy()
                captions = [f"overlap {value:.2f}" if name == "attacked" else "" for value in overlap]
                columns.append(
                    [
                        Panel(_photo(image), heatmap, signed, caption)
                        for image, heatmap, caption in zip(seen, maps, captions, strict=True)
                    ]
                )
                for place, image in enumerate(batch.ids):
                    label = f"{explainer!r} · {networks[0].model.class_name(int(targets[place]))}"
                    about = {"target": int(targets[place]), "overlap": overlap[place]}
                    view = View(label, maps[place], signed, condition=f"{network.name}, {name}", columns=about)
                    add_view(run, image, (255 * _photo(batch.images[place])).round().astype("uint8"), [view])
        panels += [list(row) for row in zip(*columns, strict=True)]
    heads = [f"{network.name}{', attacked' if attacked else ''}" for network in networks for attacked in (False, True)]
    gallery(
        panels,
        run.path("figures/defended.png"),
        columns=("photo", *heads),
        title=f"Maps under PGD of {255 * attack.epsilon:.3g}/255 on the map itself",
    )


def _photo(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()
