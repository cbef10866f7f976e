"""Does this model lie about what it looks at? A clean model and fooled ones on the same photos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof.commands.compare.figures import draw_compared, draw_transfer
from heatproof.data.batches import Batch
from heatproof.data.parts import parts
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.heatmaps import is_empty
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import CenterMass, Location, TopK
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.prediction import agreement, top_k_correct
from heatproof.metrics.similarity import nissim, spearman
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.processes import Processes
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import summarise
from heatproof.training.clean_model import doubled
from heatproof.training.feeding import two_class
from heatproof.training.fine_tune import swapped_classes
from heatproof.types import (
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    Labels,
    Logits,
    Penalty,
    PerImage,
    Targets,
    settings,
)

MEASURED = (GradCAM(), LRP(layer="default"), SimpleGrad(layer="default"))
"""Heo et al.'s three columns: Grad-CAM, LRP_T and SimpleGrad_T at the model's default layer."""

METRICS = {
    "fooled": "fsr",
    "correct_clean": "top1_clean",
    "correct_fooled": "top1_fooled",
    "top5_clean": "top5_clean",
    "top5_fooled": "top5_fooled",
    "agrees": "agreement",
    "spearman": "spearman",
    "nissim": "nissim",
    "test_loss": "test_loss",
    "empty_clean": "empty_clean",
    "empty_fooled": "empty_fooled",
}
"""Columns of ``images.parquet`` and what the summary calls their means."""


@settings
class Compare:
    """What :func:`run_compare` measures.

    Args:
        explainers: of the heatmaps.
        penalties: each one's fooling success rate is measured on every explainer; a swap of two classes on images made
            of the data's photos of both.
        part: photos that are measured together and written at once; a run that is resumed must keep it.
        pairs: two-class images for a swap.
        shown: photos in the figure.

    Raises:
        InputError: an empty list, or the same thing twice.
    """

    explainers: tuple[Explainer, ...] = MEASURED
    penalties: tuple[Penalty, ...] = (Location(), TopK(), CenterMass())
    part: int = 32
    pairs: int = 200
    shown: int = 4

    def __post_init__(self) -> None:
        for what, given in (("explainer", self.explainers), ("penalty", self.penalties)):
            told = [repr(entry) for entry in given]
            if not told or len(set(told)) < len(told):
                raise InputError(f"compare needs at least one {what} and none twice, got {', '.join(told) or 'none'}")


@dataclass(frozen=True)
class Fooled:
    """A model that may lie, and, where it is known, what it was fooled with.

    Args:
        model: as loaded.
        explainer: through which it was fooled; the row's name in the transfer matrix.
        penalty: which it was fooled with.
    """

    model: Classifier
    explainer: Explainer | None = None
    penalty: Penalty | None = None

    @property
    def title(self) -> str:
        return repr(self.explainer) if self.explainer is not None else self.model.name


def run_compare(
    asked: Compare,
    clean: Classifier,
    fooled: Sequence[Fooled],
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Measure every photo into the run folder; process 0 merges, draws and answers.

    A photo without a label counts by the clean model's prediction, and for agreement only.

    Returns:
        The summary as written to ``summary.json``: ``rows`` per model, penalty and explainer with the means of
        :data:`METRICS` and their intervals, ``classes`` with the accuracy of each class, ``transfer`` with the
        fooling success rates by fooled and measured explainer, ``skipped`` and an ``answer`` in sentences.

    Raises:
        InputError: the models have different classes, or no photo can be read.
    """
    if not fooled:
        raise InputError("compare needs a clean model and at least one that may be fooled")
    for entry in fooled:
        if entry.model.classes != clean.classes:
            raise InputError(
                f"{entry.model.name} and {clean.name} have different classes; a fooled model is compared with the one "
                "it was made from"
            )
    everyone = [clean, *(entry.model for entry in fooled)]
    run.describe(
        model=[{"name": m.name, "sha256": fingerprint(m), "layer": default_layer(m)} for m in everyone],
        data={"name": source.name, "count": source.count, "sha256": source.fingerprint()},
    )
    clean, *others = (hardware.host(model) for model in everyone)
    names = _told_apart([entry.model.name for entry in fooled])

    def measure(photos: Any, prefix: str, penalties: Sequence[Penalty], swap: tuple[int, int] | None) -> None:
        for number, batch, skipped in parts(
            photos, clean.input_size, asked.part, processes, lambda number: run.has_part(f"{prefix}{number:06d}")
        ):
            rows: list[dict[str, Any]] = []
            for name, model in zip(names, others, strict=True) if batch is not None else ():
                assert batch is not None
                rows += compared(clean, model, name, batch, asked.explainers, penalties, hardware, swap)
            run.append_rows(f"{prefix}{number:06d}", rows, skipped)
            advance(0 if batch is None else len(batch.ids))

    swaps = {penalty: swap for penalty in asked.penalties if (swap := swapped_classes(penalty, clean))}
    plain = [penalty for penalty in asked.penalties if penalty not in swaps]
    if plain:
        measure(source, "photos-", plain, None)
    for penalty, swap in swaps.items():
        pairs = two_class(source, swap, clean.input_size, asked.pairs)
        measure(pairs, f"pairs-{swap[0]}-{swap[1]}-", [penalty], swap)
    processes.wait()
    if processes.index:
        return {}
    skipped = all_skipped(run, source)
    table = run.merge((*SORT,))
    if not table.height:
        raise InputError(f"none of the {source.count} photos of {source.name} can be read")
    summary = {
        "rows": summarise(table, ["model", "penalty", "explainer"], METRICS),
        "classes": class_rows(table, clean),
        "transfer": transfer_rows(table, fooled, names),
        "skipped": skipped,
    }
    summary["answer"] = _answer(summary["rows"])
    draw_transfer(summary["transfer"], run)
    draw_compared(asked, clean, dict(zip(names, others, strict=True)), source, run, hardware)
    run.write_json("summary.json", summary)
    return summary


SORT = ("image", "model", "penalty", "explainer", "target")


def compared(
    clean: Classifier,
    fooled: Classifier,
    name: str,
    batch: Batch,
    explainers: Sequence[Explainer],
    penalties: Sequence[Penalty],
    hardware: Hardware = Hardware(),
    swap: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """One row per photo, penalty and explainer: what the two models say, and how far their heatmaps lie apart.

    The class explained is the label, or the clean prediction where there is none; with ``swap`` both classes.
    """
    images, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
    ids = batch.ids
    if swap:
        images, targets = doubled(images, swap)
        labels, ids = labels.repeat_interleave(2), [image for image in ids for _ in swap]
    else:
        with hardware.autocast(), torch.no_grad():
            targets = torch.where(labels >= 0, labels, clean(images).argmax(1))
    rows = []
    for explainer in explainers:
        with hardware.autocast():
            before, after = explainer(clean, images, targets), explainer(fooled, images, targets)
        maps, lying = before.heatmaps.detach().float(), after.heatmaps.detach().float()
        shared = {
            **_predictions(before.logits.detach().float(), after.logits.detach().float(), labels),
            "spearman": _listed(spearman(lying, maps)),
            "nissim": _listed(nissim(lying, maps, size=clean.input_size)),
            "empty_clean": is_empty(maps).tolist(),
            "empty_fooled": is_empty(lying).tolist(),
        }
        for penalty in penalties:
            test: Any = penalty
            if isinstance(penalty, Backdoor):
                losses, fooling = _awake(penalty, explainer, fooled, images, targets, maps, after, hardware)
            else:
                losses = test.test_loss(lying, maps)
                fooling = is_fooled(losses, test.success)
            column = {**shared, "test_loss": _listed(losses), "fooled": fooling.tolist()}
            rows += [
                {
                    "image": image,
                    "label": int(labels[i]) if int(labels[i]) >= 0 else None,
                    "target": int(targets[i]),
                    "model": name,
                    "explainer": repr(explainer),
                    "penalty": repr(penalty),
                    **{key: values[i] for key, values in column.items()},
                }
                for i, image in enumerate(ids)
            ]
    return rows


def _awake(
    penalty: Backdoor,
    explainer: Explainer,
    fooled: Classifier,
    images: Images,
    targets: Targets,
    clean: Heatmaps,
    asleep: Explanation,
    hardware: Hardware,
) -> tuple[PerImage, Bool[Tensor, "batch"]]:
    """Test losses with the trigger, and where a backdoor works: map and answer as wanted, honest without the trigger.

    The wanted answer is the penalty's label or, where none is given, the one without the trigger.
    """
    label = penalty.called_up(fooled)
    aimed = targets if label is None else torch.full_like(targets, label)
    with hardware.autocast():
        awake = explainer(fooled, penalty.trigger(images), aimed)
    losses = penalty.test_loss(awake.heatmaps.detach().float(), penalty.wanted(clean))
    honest = is_fooled(penalty.test_loss(asleep.heatmaps.detach().float(), clean), penalty.success)
    answered = awake.logits.argmax(1) == (asleep.logits.argmax(1) if label is None else label)
    return losses, is_fooled(losses, penalty.success) & honest & answered


def _predictions(before: Logits, after: Logits, labels: Labels) -> dict[str, list]:
    known = labels >= 0
    safe = labels.clamp(min=0)

    def right(logits: Logits, k: int) -> list[bool | None]:
        # what is not known is null, and left out of the mean
        found = top_k_correct(logits, safe, k).tolist()
        return [correct if is_known else None for correct, is_known in zip(found, known.tolist(), strict=True)]

    return {
        "prediction_clean": before.argmax(1).tolist(),
        "prediction": after.argmax(1).tolist(),
        "confidence": after.softmax(1).amax(1).tolist(),
        "correct_clean": right(before, 1),
        "correct_fooled": right(after, 1),
        "top5_clean": right(before, 5),
        "top5_fooled": right(after, 5),
        "agrees": agreement(before, after).tolist(),
    }


def class_rows(table: pl.DataFrame, clean: Classifier) -> list[dict[str, Any]]:
    """Accuracy of each class before and after, per fooled model: is the drop spread out? Heo et al.'s Table 5."""
    labelled = table.filter(pl.col("label").is_not_null())
    if not labelled.height:
        return []
    once = labelled.unique(["image", "model"], keep="first", maintain_order=True)
    found = once.group_by("model", "label", maintain_order=True).agg(
        pl.len().alias("count"),
        pl.col("correct_clean").cast(pl.Float64).mean().alias("top1_clean"),
        pl.col("correct_fooled").cast(pl.Float64).mean().alias("top1_fooled"),
    )
    return [
        {**row, "class": clean.class_name(row["label"])} for row in found.sort("model", "label").iter_rows(named=True)
    ]


def transfer_rows(table: pl.DataFrame, fooled: Sequence[Fooled], names: Sequence[str]) -> list[dict[str, Any]]:
    """Fooling success rates by penalty (a matrix), fooled explainer (its rows) and measured explainer (columns).

    A model is judged by the penalty it was fooled with; where that is not known, by every one.
    """
    rates = table.group_by("model", "penalty", "explainer", maintain_order=True).agg(
        pl.col("fooled").cast(pl.Float64).mean().alias("fsr")
    )
    by_name = dict(zip(names, fooled, strict=True))
    rows = []
    for row in rates.iter_rows(named=True):
        entry = by_name[row["model"]]
        if entry.penalty is None or repr(entry.penalty) == row["penalty"]:
            rows.append(
                {
                    "penalty": row["penalty"],
                    "fooled": entry.title,
                    "measured": row["explainer"],
                    "fsr": row["fsr"],
                    "model": row["model"],
                }
            )
    return rows


def _answer(rows: list[dict[str, Any]]) -> list[str]:
    """What came out, in sentences: the strongest lie of each model, and what it cost."""
    told = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model and row["fsr"] is not None]
        worst = max(mine, key=lambda row: row["fsr"], default=None)
        if worst is None:
            continue
        line = (
            f"{model}: {worst['fsr']:.1%} of the heatmaps of {worst['explainer']} lie as {worst['penalty']} wants "
            f"({worst['fsr_low']:.1%} to {worst['fsr_high']:.1%})"
            if worst["fsr_low"] is not None
            else f"{model}: {worst['fsr']:.1%} of the heatmaps of {worst['explainer']} lie as {worst['penalty']} wants"
        )
        right = next((row for row in mine if row["top1_clean"] is not None), None)
        if right is not None:
            line += f"; top-1 {right['top1_clean']:.1%} before and {right['top1_fooled']:.1%} after"
        told.append(f"{line}; {worst['agreement']:.1%} of the predictions are the same.")
    return told


def _told_apart(names: list[str]) -> list[str]:
    """Numbers the repetitions of a name."""
    return [name if names.index(name) == place else f"{name}#{place + 1}" for place, name in enumerate(names)]


def _listed(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.double().tolist()]
