"""The figures of a shift: MOD and accuracy against epsilon, NISSIM's distribution, the most and least moved images."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from heatproof.commands.shift.measure import CLEAN
from heatproof.commands.shift.summary import CURVE, ShiftRow
from heatproof.report.figures import Panel, amplify, gallery
from heatproof.report.plots import curve_of, curves, distributions
from heatproof.report.words import epsilon
from heatproof.results.run import Run
from heatproof.results.viewer import View, add_view


class Seen(NamedTuple):
    """Pixels ``[3, rows, cols]`` and the heatmap of one image under one condition.

    Attributes:
        answered: the predicted class with its probability, and those of the explained class where it is another.
    """

    attack: str
    epsilon: float
    pixels: NDArray[Any]
    heatmap: NDArray[Any]
    answered: str = ""


class Shown(NamedTuple):
    """One image before and after the attack.

    Attributes:
        signed: whether its maps have a sign.
        moved: NISSIM of the two maps; None where there is none.
    """

    image: str
    before: Seen
    after: Seen
    signed: bool
    moved: float | None = None


def draw_curves(run: Run, rows: Sequence[ShiftRow]) -> None:
    """``figures/mod.png`` and ``figures/accuracy.png``: a curve per model, attack and explainer."""
    named = _series([row for row in rows if row.attack != CLEAN])
    clean = {(row.model, row.explainer): row for row in rows if row.attack == CLEAN}
    for file, metric, ylabel, title in (
        ("mod", "mod", "MOD, mean NISSIM in [0, 1]; 0 = no map moved", "How far heatmaps move"),
        ("accuracy", "top1", "top-1 accuracy", "Accuracy under attack"),
    ):
        series = {}
        for name, curve in named.items():
            points = [clean[curve[0].model, curve[0].explainer], *curve]
            means = [row.means[metric] for row in points]
            if any(mean.value is None for mean in means):
                continue
            series[name] = curve_of([row.epsilon for row in points], means)
        if series:
            curves(
                series,
                run.path(f"figures/{file}.png"),
                xlabel="budget \N{GREEK SMALL LETTER EPSILON}, pixels in [0, 1]",
                xticks={row.epsilon: epsilon(row.epsilon) for row in rows},
                ylabel=ylabel,
                title=f"{title} (95% intervals over images)",
                ylim=(0, None),
            )


def draw_distributions(run: Run, table: pl.DataFrame, model: str, file: str) -> None:
    """How NISSIM is spread over the images at each epsilon, for a model's first attack and explainer."""
    own = table.filter((pl.col("model") == model) & (pl.col("attack") != CLEAN))
    attack, explainer = own["attack"][0], own["explainer"][0]
    own = own.filter((pl.col("attack") == attack) & (pl.col("explainer") == explainer))
    groups = {
        f"epsilon {epsilon(key[0])}": group["nissim"].to_numpy()
        for key, group in own.sort("epsilon").group_by("epsilon", maintain_order=True)
    }
    distributions(
        groups,
        run.path(f"figures/nissim-{file}.png"),
        xlabel="NISSIM of clean and adversarial map; 0 = the same map",
        title=f"{model}, {attack}, {explainer}",
        xlim=(0, 1),
    )


def draw_gallery(run: Run, model: str, file: str, most: Iterable[Shown], least: Iterable[Shown]) -> None:
    """Clean photo, perturbation, adversarial photo and both maps of the most and of the least moved images."""
    panels, labels = [], []
    for word, group in (("most moved", most), ("least moved", least)):
        for shown in group:
            before, after = shown.before, shown.after
            clean, adversarial = before.pixels.transpose(1, 2, 0), after.pixels.transpose(1, 2, 0)
            noise, factor = amplify(adversarial - clean)
            condition = f"{after.attack} at {epsilon(after.epsilon)}"
            moved = "" if shown.moved is None else f"moved by {shown.moved:.2f} (NISSIM)"
            panels.append(
                [
                    Panel(photo=clean, caption=f"{before.answered}\n{shown.image}".strip()),
                    Panel(photo=noise, caption=f"enlarged {factor:.3g} times"),
                    Panel(photo=adversarial, caption=f"{after.answered}\n{condition}".strip()),
                    Panel(photo=clean, heatmap=before.heatmap, signed=shown.signed),
                    Panel(photo=adversarial, heatmap=after.heatmap, signed=shown.signed, caption=moved),
                ]
            )
            labels.append(word)
    if panels:
        gallery(
            panels,
            run.path(f"figures/gallery-{file}.png"),
            rows=labels,
            columns=["clean", "perturbation", "adversarial", "clean map", "adversarial map"],
            title=f"{model}: the images whose map moved most and least",
        )


def keep_views(run: Run, model: str, shown: Iterable[Shown], explainer: str) -> None:
    """The same images for the report's viewer."""
    for entry in shown:
        photos = [
            (255 * seen.pixels.transpose(1, 2, 0)).round().astype(np.uint8) for seen in (entry.before, entry.after)
        ]
        maps = [
            View(
                f"{model} · {explainer}",
                seen.heatmap,
                entry.signed,
                CLEAN if seen.attack == CLEAN else f"{seen.attack} at {epsilon(seen.epsilon)}",
                {"model": model, "explainer": explainer, "attack": seen.attack, "epsilon": seen.epsilon},
            )
            for seen in (entry.before, entry.after)
        ]
        add_view(run, entry.image, photos[0], maps, photos[1])


def _series(rows: Sequence[ShiftRow]) -> dict[str, list[ShiftRow]]:
    """Rows by curve, named by as much as it takes to tell them apart."""
    differing = [name for name in CURVE if len({row.summary.by[name] for row in rows}) > 1] or ["model"]
    series: dict[str, list[ShiftRow]] = {}
    for row in sorted(rows, key=lambda row: row.epsilon):
        series.setdefault(" · ".join(str(row.summary.by[name]) for name in differing), []).append(row)
    return series
