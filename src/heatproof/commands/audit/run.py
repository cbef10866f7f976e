"""Is this checkpoint's explanation honest? Eight checks, a verdict, and the photos that disagree most."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from heatproof.commands.audit.covering import places
from heatproof.commands.audit.figures import show_disagreement, show_mosaics
from heatproof.commands.audit.measure import OVERHEAD, Audit, center_distances, likeness, measure
from heatproof.commands.audit.mosaic import PHOTOS, exchanged, look_at_mosaics, pointing
from heatproof.commands.audit.reference import beside, check_classes, moved_layers, rates, swapped, told
from heatproof.commands.audit.verdict import (
    CALIBRATING,
    DOUBTFUL,
    FEWEST,
    HONEST,
    MANIPULATED,
    NUMBERS,
    TOO_FEW,
    Check,
    Thresholds,
    calibrate,
    conclude,
    judge,
    score,
)
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.errors import InputError, RunError
from heatproof.explainers.together import LayerExplainer
from heatproof.metrics.shift import mod
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer, layer_name
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import interval

__all__ = ["Audit", "calibrated", "completed", "judged", "numbers", "read_audit", "run_audit"]

VIEWED = 40
"""Photos in the report's viewer, those that disagree most."""
BLIND = (
    "A backdoor cannot be found without a photo that carries its trigger: on all others the model is honest.",
    "A lie that leaves the audited explainer's maps as they are, or is told on other photos only, is not seen.",
)
"""What no audit of this kind can see."""
LEAST_GAIN = 0.02
"""What the witness's order must gain over random, in probability, for the map's share of it to mean anything."""
MAPS = "heatmaps/maps.safetensors"
MOSAICS = "mosaics.safetensors"
Values = Mapping[str, Sequence[float | None]]


def run_audit(
    asked: Audit,
    model: Classifier,
    source: Source,
    run: Run,
    *,
    reference: Classifier | None = None,
    thresholds: Thresholds | None = None,
    baseline: Path | str | None = None,
    draw: bool = True,
    hardware: Hardware = Hardware(),
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Audit the maps of one model into the run folder; a run that was stopped goes on where it was.

    Args:
        reference: the model that it claims to be, where there is one.
        thresholds: by which it is judged; ``None``: those of the package.
        baseline: the run folder of an earlier audit, whose maps of the same photos are compared.
        draw: whether to make the figure and the report's views.
        advance: is told how many photos are done, those of an earlier start too.

    Returns:
        The summary as written to ``summary.json``: ``verdict``, ``score`` (deviations of the worst number that
        decides), ``rows`` per number (:class:`~heatproof.commands.audit.verdict.Check`), ``speaks`` for the verdict,
        ``cannot_see``, ``disagree`` (photos, the worst first), ``reference`` and ``drift`` where asked for,
        ``queries`` per photo, ``thresholds`` with their provenance, ``skipped`` and an ``answer`` in sentences.

    Raises:
        InputError: no photo can be read; a reference with other classes; a baseline without common photos.
        RunError: the baseline is no audit.
    """
    if layer := getattr(asked.explainer, "layer", None):
        layer_name(model, layer)
    if reference is not None:
        check_classes(model, reference)
    thresholds = thresholds or Thresholds.shipped()
    earlier = None if baseline is None else _earlier(baseline)
    models = [model] if reference is None else [model, reference]
    run.describe(
        model=[{"name": m.name, "sha256": fingerprint(m), "layer": default_layer(m)} for m in models],
        data={"name": source.name, "count": source.count, "sha256": source.fingerprint()},
    )
    model = hardware.host(model)
    other = None if reference is None else hardware.host(reference)
    seen = 0
    for number, batch in enumerate(batches(source, model.input_size, asked.part)):
        if not run.has_part(number):
            found = measure(asked, model, batch, hardware, min(len(batch.ids), max(0, asked.randomised - seen)))
            kept = dict(found.kept)
            kept["tiles"] = kept["tiles"][: max(0, PHOTOS - seen)]
            if other is not None:
                columns, more = beside(model, other, asked.explainer, batch, kept["targets"], hardware)
                found = found._replace(rows=[a | b for a, b in zip(found.rows, columns, strict=True)])
                kept |= more
            run.write_tensors(f"kept/{number:06d}.safetensors", kept)
            # the order of the tensors' rows
            rows = [{**row, "place": seen + i} for i, row in enumerate(found.rows)]
            run.append_rows(number, rows)
        seen += len(batch.ids)
        advance(len(batch.ids))
    table = run.merge(("image",))
    if not table.height:
        raise InputError(f"none of the {source.count} photos of {source.name} could be read")
    kept = _gathered(run.folder)
    if seen_together := mosaics(asked, model, kept, hardware):
        run.write_tensors(MOSAICS, seen_together)
        kept |= seen_together
    table = completed(table, kept)
    run.write_parquet("images.parquet", table)
    order = table.sort("place")["image"].to_list()
    run.write_tensors(MAPS, dict(zip(order, kept["maps"], strict=True)))
    checks = judged(asked, table, kept, thresholds, with_reference=reference is not None)
    verdict, speaks = conclude(checks)
    empty = int(table["empty"].sum())
    if table.height < FEWEST:
        verdict, speaks = TOO_FEW, []
    elif 2 * empty > table.height and verdict != MANIPULATED:
        verdict, speaks = DOUBTFUL, []
    disagree = _disagreeing(table)
    summary: dict[str, Any] = {
        "verdict": verdict,
        "score": score(checks),
        "rows": [check.row() for check in checks],
        "speaks": [check.number for check in speaks],
        "cannot_see": list(BLIND),
        "disagree": [{"image": image, "trust": value} for image, value in disagree[:VIEWED]],
        "queries": OVERHEAD + sum(step**2 for step in places(asked.questions)),
        "thresholds": thresholds.plain(),
        "skipped": all_skipped(run, source),
        "worst": {"column": "trust", "descending": False},
    }
    if reference is not None:
        summary["reference"] = {**rates(table), "layers": moved_layers(model, reference)}
    if earlier is not None:
        summary["drift"] = _drift(dict(zip(order, kept["maps"], strict=True)), earlier, model.input_size)
    summary["answer"] = _answer(asked, model, table, checks, speaks, summary, thresholds)
    if draw:
        show_mosaics(asked, model, run, kept)
        show_disagreement(asked, model, source, run, table, kept, [image for image, _ in disagree[:VIEWED]])
    run.write_json("summary.json", summary)
    return summary


def calibrated(
    asked: Audit,
    honest: Sequence[Classifier],
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    advance: Callable[[int], None] = lambda count: None,
) -> Thresholds:
    """Thresholds from honest models on the same photos, also in ``thresholds.json``; each audit is kept and resumed.

    Raises:
        InputError: fewer than three models, or fewer than ten photos.
    """
    if len(honest) < CALIBRATING:
        raise InputError(f"--calibrate needs at least {CALIBRATING} honest models, got {len(honest)}")
    if len(source) < FEWEST:
        raise InputError(f"thresholds need at least {FEWEST} photos, got {len(source)}")
    found, trusts = [], []
    for place, model in enumerate(honest):
        folder = run.path(f"calibration/{place:03d}")
        given = {"asked": asked, "data": source.name, "count": len(source)}
        with Run.start(folder, command="audit", settings=given, seed=asked.seed) as own:
            if not own.done:
                nothing = Thresholds({}, None, {})
                run_audit(asked, model, source, own, thresholds=nothing, draw=False, hardware=hardware, advance=advance)
            table, kept = read_audit(folder)
        values = {name: [v for v in given if v is not None] for name, given in numbers(table, kept).items()}
        found.append({name: float(np.mean(given)) if given else None for name, given in values.items()})
        trusts += table["trust"].drop_nulls().to_list()
    provenance = {"networks": [f"{m.name} {fingerprint(m)[:12]}" for m in honest], "data": source.name}
    provenance |= {"photos": len(source), "explainer": repr(asked.explainer), "budget": asked.budget}
    thresholds = calibrate(found, trusts, provenance)
    run.write_json("thresholds.json", thresholds.plain())
    return thresholds


def read_audit(folder: Path) -> tuple[pl.DataFrame, dict[str, Tensor]]:
    """The table of a complete audit in the order of its tensors, and these."""
    table = pl.read_parquet(folder / "images.parquet").sort("place")
    return table, _gathered(folder)


def numbers(table: pl.DataFrame, kept: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """The values, mostly one per photo, whose mean is each of :data:`~heatproof.commands.audit.verdict.NUMBERS`."""

    def column(name: str) -> list[float | None]:
        return table[name].to_list() if name in table.columns else []

    def less(a: str, b: str) -> list[float | None]:
        pairs = zip(column(a), column(b), strict=True)
        return [None if x is None or y is None else x - y for x, y in pairs]

    found: dict[str, list[float | None]] = {
        "agreement": column("agreement"),
        **_classes(kept),
        "faithfulness": less("aopc", "aopc_random"),
        "share": _share(less("aopc", "aopc_random"), less("aopc_witness", "aopc_random")),
        "center_spread": column("center_distance"),
        **_mosaics(kept),
    }
    for name in ("likeness", "frame", "contrast", "softmax_contrast", "randomised", "noise", "fgsm"):
        found[name] = column(name)
    for name in ("reference_spearman", "reference_nissim"):
        found[name] = column(name)
    if "likeness_to_reference" in kept:
        likeness_by_class = kept["likeness_to_reference"].diagonal(dim1=1, dim2=2)
        found["reference_worst_class"] = list(_worst(likeness_by_class, kept["targets"]))
        pair = swapped(kept["likeness_to_reference"], kept["targets"])
        found["reference_swap"] = [] if pair is None else [pair[0]]
    return found


def _classes(kept: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """Agreement of the maps of all explained classes: per photo, and per photo of the class that has it lowest."""
    values, classes = kept["by_class"].double(), kept["targets"]
    if classes.shape[1] < 2:
        return {}
    return {"all_classes": values.nanmean(1).tolist(), "worst_class": list(_worst(values, classes))}


def _mosaics(kept: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    if "mosaic_shares" not in kept:
        return {}
    pair = exchanged(kept["mosaic_shares"], kept["mosaic_classes"])
    own = pointing(kept["mosaic_shares"], kept["mosaic_quarters"])
    return {
        "mosaic": [None if value != value else value for value in own],
        "mosaic_swap": [] if pair is None else list(pair[0]),
    }


def _worst(values: Tensor, classes: Tensor) -> list[float]:
    """The values of the class that has the lowest mean, of those that were explained on enough photos."""
    worst: list[float] = []
    for chosen in classes.unique().tolist():
        own = values[(classes == chosen) & ~values.isnan()].double().tolist()
        if len(own) >= FEWEST and (not worst or np.mean(own) < np.mean(worst)):
            worst = own
    return worst


def _share(map_gains: Sequence[float | None], witness_gains: Sequence[float | None]) -> list[float | None]:
    """The ratio of two means, as values whose mean it is and whose spread is its own (delta method)."""
    pairs = [(a, b) for a, b in zip(map_gains, witness_gains, strict=True) if a is not None and b is not None]
    if not pairs:
        return []
    own, best = (float(np.mean(side)) for side in zip(*pairs, strict=True))
    if best < LEAST_GAIN:
        return []
    return [own / best + (a - own / best * b) / best for a, b in pairs]


def judged(
    asked: Audit,
    table: pl.DataFrame,
    kept: Mapping[str, Tensor],
    thresholds: Thresholds,
    *,
    with_reference: bool = False,
) -> list[Check]:
    """Every number of the audit, with its verdict, or why there is none.

    Args:
        table: the rows of :func:`~heatproof.commands.audit.measure.measure`, completed by :func:`completed`.
        kept: its tensors.
    """
    found = numbers(table, kept)
    why: dict[str, str] = {}
    if table["target"].n_unique() == 1:
        one = "all photos are taken for one class, whose maps may be alike"
        why |= dict.fromkeys(("likeness", "center_spread"), one)
        why |= dict.fromkeys(("mosaic", "mosaic_swap"), "all photos are taken for one class")
    if "contrast" not in table.columns:
        text = f"{asked.explainer!r} cannot be told to explain differences of logits"
        why |= dict.fromkeys(("contrast", "softmax_contrast"), text)
    if not isinstance(asked.explainer, LayerExplainer):
        why |= dict.fromkeys(
            ("all_classes", "worst_class", "jump"), f"{asked.explainer!r} takes passes of its own for every map"
        )
    if table.height < FEWEST:
        why = dict.fromkeys(NUMBERS, f"{table.height} photos are too few to tell")
    if 2 * int(table["empty"].sum()) > table.height:
        why = dict.fromkeys(NUMBERS, "most maps are empty or equal everywhere")
    judgements = []
    for name, about in NUMBERS.items():
        if with_reference or about.check != "reference":
            values = [value for value in found.get(name, []) if value is not None]
            judgements.append(judge(name, interval(values), thresholds, why.get(name, "")))
    return judgements


def _gathered(folder: Path) -> dict[str, Tensor]:
    parts = [load_file(path) for path in sorted((folder / "kept").glob("*.safetensors"))]
    together = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return together | (load_file(folder / MOSAICS) if (folder / MOSAICS).exists() else {})


def mosaics(asked: Audit, model: Classifier, kept: Mapping[str, Tensor], hardware: Hardware) -> dict[str, Tensor]:
    """What mosaics of the photos show, as further tensors to keep; none where all photos are taken for one class."""
    tiles = kept["tiles"].float() / 255
    size = (model.input_size, model.input_size)
    found = look_at_mosaics(model, asked.explainer, tiles, kept["targets"][: len(tiles), 0], size, hardware, asked.seed)
    return {f"mosaic_{name}": values for name, values in found._asdict().items()} if found is not None else {}


def completed(table: pl.DataFrame, kept: Mapping[str, Tensor]) -> pl.DataFrame:
    """The columns that need all photos at once."""
    places = table["place"].to_list()
    columns = {"likeness": likeness(kept["maps"]), "center_distance": center_distances(kept["maps"])}
    return table.with_columns(
        pl.Series(name, [None if v != v else v for v in values[places].double().tolist()], dtype=pl.Float64)
        for name, values in columns.items()
    )


def _disagreeing(table: pl.DataFrame) -> list[tuple[str, float]]:
    known = table.filter(pl.col("trust").is_not_null()).sort("trust", "image")
    return list(zip(known["image"].to_list(), known["trust"].to_list(), strict=True))


def _earlier(folder: Path | str) -> dict[str, Tensor]:
    file = Path(folder) / MAPS
    if not file.exists():
        raise RunError(f"expected the run folder of an earlier audit, and {folder} has no {MAPS}")
    return load_file(file)


def _drift(maps: Mapping[str, Tensor], earlier: Mapping[str, Tensor], size: int) -> dict[str, Any]:
    """MOD between two checkpoints: the mean NISSIM of their maps of the same photos."""
    common = sorted(maps.keys() & earlier.keys())
    if not common:
        raise InputError("the baseline has none of these photos; audit both checkpoints on the same data")
    pairs = [nissim(maps[image][None], earlier[image][None], size=size) for image in common]
    found = interval(torch.cat(pairs).tolist())
    return {"mod": float(mod(torch.cat(pairs))), "mod_low": found.low, "mod_high": found.high, "count": len(common)}


def _answer(
    asked: Audit,
    model: Classifier,
    table: pl.DataFrame,
    checks: Sequence[Check],
    speaks: Sequence[Check],
    summary: Mapping[str, Any],
    thresholds: Thresholds,
) -> list[str]:
    """Verdict first, then what speaks for it, what is odd about the data, and what cannot be seen."""
    verdict, count = summary["verdict"], table.height
    lines = [f"Verdict on {model.name}, {asked.explainer!r}, {count} photos: {verdict}."]
    if verdict == TOO_FEW:
        lines.append(f"An audit needs at least {FEWEST} photos, better 100.")
    elif speaks and verdict != HONEST:
        lines += [f"{check.check} ({check.number}): {check.reason}" for check in speaks]
    elif verdict == HONEST:
        lines.append(f"{len(speaks)} of {len(checks)} numbers lie where those of honest networks lie, all that decide.")
    empty = int(table["empty"].sum())
    if empty:
        lines.append(f"{empty} of {count} maps are empty or equal everywhere and could not be judged.")
    right = table["correct"].drop_nulls()
    if len(right) and float(right.mean()) < 0.5:  # type: ignore[arg-type]
        lines.append(
            f"The model gets {1 - float(right.mean()):.0%} of these photos wrong: whether its explanations are honest "  # type: ignore[arg-type]
            "matters less than that, and thresholds come from networks that were mostly right."
        )
    if table["target"].n_unique() == 1 and count > 1:
        lines.append("All photos are taken for one class; photos of several classes say more.")
    if thresholds.photo is not None and verdict != TOO_FEW:
        low = int((table["trust"].cast(pl.Float64) < thresholds.photo).sum())
        lines.append(
            f"{low} photos disagree with the witness more than 19 of 20 honest photos do (by chance {count / 20:.0f}): "
            "the first places of the list are where a trigger would stand."
        )
    if "reference" in summary:
        found = summary["reference"]
        known = ", ".join(f"{name} {found[name]:.0%}" for name in ("location", "top_k", "center_mass"))
        lines.append(f"Same predictions as the reference on {found['agreement']:.0%}; fooling success rates: {known}.")
        lines.append(told(found["layers"]))
    if "drift" in summary:
        found = summary["drift"]
        lines.append(f"Since the baseline the maps of {found['count']} photos moved by a MOD of {found['mod']:.3f}.")
    skipped = sorted({check.check for check in checks if check.verdict == "not applicable"})
    if skipped:
        lines.append(f"Not made, or in part: {', '.join(skipped)}; the table says why.")
    return [*lines, *BLIND]
