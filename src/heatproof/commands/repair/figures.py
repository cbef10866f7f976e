"""Pictures of a repair: its course, and the maps before and after beside the witness."""

import numpy as np
import polars as pl
import torch

from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.repair import Repaired
from heatproof.report.figures import Panel, gallery
from heatproof.report.plots import curves
from heatproof.results.run import Run
from heatproof.results.viewer import View, add_view
from heatproof.types import Explainer, is_signed

VIEWED = 40
"""Photos in the viewer."""


def draw_course(found: Repaired[Classifier], run: Run) -> None:
    """``figures/course.png``: likeness, agreement and accuracy on the held-out photos at every evaluation."""
    looks = found.history.looks
    if len(looks) < 2:
        return
    at = [row["step"] for row in looks]
    names = {"likeness to the witness": "likeness", "agreement": "agreement", "accuracy": "accuracy"}
    curves(
        {name: (at, [row[column] for row in looks]) for name, column in names.items()},
        run.path("figures/course.png"),
        xlabel="step",
        ylabel="mean over held-out photos",
        references={"accuracy before": found.before.accuracy},
    )


def draw_maps(
    explainer: Explainer,
    shown: int,
    given: Classifier,
    found: Repaired[Classifier],
    table: pl.DataFrame,
    run: Run,
    hardware: Hardware,
) -> None:
    """``figures/repaired.png``, photos spread evenly, and in the viewer those whose maps changed most."""
    rows = {row["image"]: row for row in table.iter_rows(named=True)}
    ids = list(found.held_out.ids)
    even = np.linspace(0, len(ids) - 1, max(shown, 1)).round().astype(int).tolist()
    far = sorted(range(len(ids)), key=lambda place: rows[ids[place]]["kept"])[:VIEWED]
    places = list(dict.fromkeys([*even, *far]))
    fed = next(iter(found.held_out.taken(places).ordered(len(places))))
    images = hardware.bring(fed.images)
    targets = torch.tensor([rows[ids[place]]["target"] for place in places], device=images.device)
    signed = is_signed(explainer)
    with hardware.autocast():
        maps = [explainer(m, images, targets).heatmaps.detach().float().cpu().numpy() for m in (given, found.model)]
    witness = found.witness.at(torch.tensor(places)).numpy()
    panels = []
    for i, place in enumerate(places):
        row = rows[ids[place]]
        photo = fed.images[i].permute(1, 2, 0).numpy()
        name = given.class_name(row["target"])
        if place in even and len(panels) < shown:
            panels.append(
                [
                    Panel(photo, caption=name),
                    Panel(photo, maps[0][i], signed, f"likeness {row['likeness_before']:.2f}"),
                    Panel(photo, maps[1][i], signed, f"likeness {row['likeness_after']:.2f}"),
                    Panel(photo, witness[i], True),
                ]
            )
        columns = {"target": row["target"]}
        add_view(
            run,
            ids[place],
            (photo * 255).round().astype("uint8"),
            [
                View(f"{explainer!r} · {name}", maps[0][i], signed, condition="before", columns=columns),
                View(f"{explainer!r} · {name}", maps[1][i], signed, condition="after", columns=columns),
                View(f"witness · {name}", witness[i], True, columns=columns),
            ],
        )
    gallery(
        panels,
        run.path("figures/repaired.png"),
        columns=("photo", "map before", "map after", "black-box witness"),
        title="Pulled to the truth, the answers held",
    )
