"""What does the network look at? Heatmaps of photos: a row per class, a column per explainer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heatproof import heatmaps as algebra
from heatproof.commands.assurance import (
    COLUMNS,
    any_assurance,
    assurance,
    captions,
    certified_cells,
    explanation_of,
)
from heatproof.commands.record import describe
from heatproof.data.batches import Batch
from heatproof.data.parts import parts
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import Grid, explain_together
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import at_named_layer, check_layer, default_layer
from heatproof.processes import Processes
from heatproof.report.figures import explanation_grid
from heatproof.results.names import figure_names, file_names
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import summarise
from heatproof.results.viewer import View, add_view
from heatproof.types import AtLayer, Explainer, changed_inside, inside, is_signed, settings

STANDARD = (GradCAM(), GradCAM(relu=False), GradCAM(counterfactual=True))
"""What speaks for the class, what speaks for and against it, and what speaks against it."""


@settings
class Explain:
    """Settings of :func:`run_explain`.

    Args:
        explainers: one column each.
        targets: classes by number, one row each; empty: the ``top`` predicted classes of each photo.
        top: how many predicted classes.
        keep_heatmaps: also write the raw maps, ``heatmaps/<explainer>.safetensors``.
        pdf: also write each figure as PDF.
    """

    explainers: tuple[Explainer, ...] = STANDARD
    targets: tuple[int, ...] = ()
    top: int = 2
    keep_heatmaps: bool = False
    pdf: bool = False


def at_layers(explainers: Sequence[Explainer], layers: Sequence[str]) -> tuple[Explainer, ...]:
    """Each explainer that can read a layer, once per layer; one that names its own layer, or reads none, once.

    >>> at_layers([GradCAM(), GradCAM("conv1")], ["layer3", "layer4"])
    (GradCAM(layer='layer3'), GradCAM(layer='layer4'), GradCAM(layer='conv1'))
    """
    expanded: list[Explainer] = []
    for explainer in explainers:
        if len(inside(explainer)) == 1 and layers:
            within = at_layers(inside(explainer), layers)
            expanded += [changed_inside(explainer, lambda _, one=one: one) for one in within]
            continue
        free = isinstance(explainer, AtLayer) and explainer.layer is None
        expanded += [replace(explainer, layer=layer) for layer in layers] if free and layers else [explainer]  # type: ignore[type-var]
    return tuple(expanded)


def run_explain(
    settings: Explain,
    model: Classifier,
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Explain every photo of ``source`` into the run folder; photos that cannot be read are skipped and listed.

    A run that was killed goes on after its last whole part of ``batch_size`` photos, which it must keep. Several
    processes share the parts; process 0 merges.

    Returns:
        The summary (of processes other than 0 an empty one), as written to ``summary.json``: a row per explainer with
        ``count``, ``confidence`` and the share of ``empty`` maps, and ``skipped``.

    Raises:
        InputError: where no photo could be explained.
    """
    for explainer in settings.explainers:
        check_layer(model, explainer)
    describe(run, [model], source)
    model = hardware.host(model)
    names = figure_names(source.ids)
    done = {number for number in range(-(-len(source) // batch_size)) if run.has_part(number)}
    advance(sum(min(batch_size, len(source) - number * batch_size) for number in done))
    for number, batch, skipped in parts(source, model.preprocessing, batch_size, processes, done.__contains__):
        rows = [] if batch is None else _explain_part(settings, model, number, batch, run, hardware, names)
        run.append_rows(number, rows, skipped)
        advance((len(batch.ids) if batch else 0) + len(skipped))
    processes.wait()
    if not processes.ends:
        return {}
    skipped = all_skipped(run, source)
    table = run.merge()
    explained = table.height > 0
    measured = ["confidence", "empty", *(column for column in COLUMNS if column in table.columns)]
    rows = summarise(table, ["model", "explainer"], measured) if explained else []
    summary = {
        "rows": [row.plain() for row in rows],
        "skipped": skipped,
    }
    run.write_json("summary.json", summary)
    if not explained:
        raise InputError(f"none of the {source.count} photos of {source.name} could be explained; {_reasons(source)}")
    return summary


def _explain_part(
    settings: Explain,
    model: Classifier,
    number: int,
    batch: Batch,
    run: Run,
    hardware: Hardware,
    names: dict[str, str],
) -> list[dict[str, Any]]:
    """The rows of a part, once its figures, views and maps are written."""
    grid = _explained(settings, model, batch, hardware)
    for place, image in enumerate(batch.ids):
        figure, title = run.path(f"figures/{names[image]}"), f"{image} · {model.name}"
        draw_grid(figure, model, batch.images[place], settings.explainers, grid, place, title, settings.pdf)
        add_grid_view(run, image, model, batch.images[place], settings.explainers, grid, place)
    if settings.keep_heatmaps:
        _write_heatmaps(run, number, batch, settings.explainers, grid)
    return _rows(settings.explainers, model, batch, grid, names)


def _explained(settings: Explain, model: Classifier, batch: Batch, hardware: Hardware) -> Grid:
    images, targets = hardware.bring(batch.images), None
    if settings.targets:
        targets = torch.tensor(settings.targets, device=images.device).expand(len(images), -1)
    with hardware.autocast():
        return explain_together(model, images, settings.explainers, targets, top=settings.top)


def _write_heatmaps(run: Run, number: int, batch: Batch, explainers: Sequence[Explainer], grid: Grid) -> None:
    """``heatmaps/<explainer>-<number>.safetensors``: the raw maps by ``<image>|<class>``."""
    files = file_names([repr(explainer) for explainer in explainers])
    for explainer, maps in zip(explainers, grid.heatmaps, strict=True):
        tensors = {
            f"{image}|{int(target)}": map_.float().cpu()
            for image, row, classes in zip(batch.ids, maps, grid.targets, strict=True)
            for map_, target in zip(row, classes, strict=True)
        }
        run.write_tensors(f"heatmaps/{files[repr(explainer)]}-{number:06d}.safetensors", tensors)


def add_grid_view(
    run: Run, name: str, model: Classifier, image: Tensor, explainers: Sequence[Explainer], grid: Grid, place: int
) -> None:
    """What the report's viewer shows of photo ``place`` of ``grid``."""
    maps = [
        View(
            f"{column_title(explainer, model)} · {model.class_name(target)}".replace("\n", " "),
            maps[place, row].float().cpu().numpy(),
            signed=is_signed(explainer),
            columns={"explainer": repr(explainer), "target": target},
        )
        for explainer, maps in zip(explainers, grid.heatmaps, strict=True)
        for row, target in enumerate(grid.targets[place].tolist())
    ]
    add_view(run, name, (image * 255).round().byte().permute(1, 2, 0).cpu().numpy(), maps)


def _reasons(source: Source) -> str:
    return "; ".join(f"{entry['image']}: {entry['reason']}" for entry in source.skipped[:3]) or "it holds none"


def column_title(explainer: Explainer, model: Classifier) -> str:
    """What a figure calls an explainer: its method and its layer.

    Grad-CAM's three forms carry the field's own words for them.
    """
    name = type(explainer).__name__
    within = inside(explainer)
    if within:
        return f"{name} of {' + '.join(column_title(one, model) for one in within)}"
    if isinstance(explainer, GradCAM):
        name = "Grad-CAM"
        if explainer.counterfactual:
            name = "Counterfactual Grad-CAM"
        elif not explainer.relu:
            name = "Grad-CAM without ReLU"
    layer = at_named_layer(model, explainer).layer if isinstance(explainer, AtLayer) else ""
    if layer is None or layer == "default":
        layer = default_layer(model) if type(explainer).__name__ != "LRP" or layer else ""
    return f"{name}\n{layer}" if layer else name


def draw_grid(
    path: Path,
    model: Classifier,
    image: Tensor,
    explainers: Sequence[Explainer],
    grid: Grid,
    place: int,
    title: str,
    pdf: bool = False,
) -> None:
    """The figure of photo ``place`` of ``grid``; ``image`` is ``[channels, rows, cols]`` in [0, 1]."""
    probabilities = grid.logits[place].float().softmax(0).cpu()
    likeliest = probabilities.topk(min(5, len(probabilities)))
    classes = grid.targets[place].tolist()
    explanation_grid(
        image.permute(1, 2, 0).cpu().numpy(),
        [(model.class_name(c), float(probabilities[c])) for c in classes],
        [column_title(explainer, model) for explainer in explainers],
        [[maps[place, row].float().cpu().numpy() for maps in grid.heatmaps] for row in range(len(classes))],
        [is_signed(explainer) for explainer in explainers],
        path,
        title=title,
        predictions=[
            (model.class_name(int(c)), float(p)) for p, c in zip(likeliest.values, likeliest.indices, strict=True)
        ],
        captions=captions(grid, place),
        cells=certified_cells(grid, place),
        pdf=pdf,
    )


def _rows(
    explainers: Sequence[Explainer], model: Classifier, batch: Batch, grid: Grid, figures: dict[str, str]
) -> list[dict[str, Any]]:
    probabilities = grid.logits.float().softmax(1)
    confidence, predictions = probabilities.max(1)
    rows, assured = [], any_assurance(grid)
    for number, (explainer, maps) in enumerate(zip(explainers, grid.heatmaps, strict=True)):
        for column in range(grid.targets.shape[1]):
            said = explanation_of(grid, number, column)
            heatmaps = maps[:, column].float()
            empty = algebra.is_empty(heatmaps)
            centers = algebra.center_of_mass(heatmaps)
            scale = torch.tensor(heatmaps.shape[1:], device=heatmaps.device)
            places = (centers + 0.5) / scale
            for i, image in enumerate(batch.ids):
                target = int(grid.targets[i, column])
                rows.append(
                    {
                        "image": image,
                        "label": int(batch.labels[i]) if int(batch.labels[i]) >= 0 else None,
                        "target": target,
                        "target_name": model.class_name(target),
                        "prediction": int(predictions[i]),
                        "prediction_name": model.class_name(int(predictions[i])),
                        "confidence": float(confidence[i]),
                        "probability": float(probabilities[i, target]),
                        "model": model.name,
                        "explainer": repr(explainer),
                        "attack": None,
                        "epsilon": 0.0,
                        "empty": bool(empty[i]),
                        "minimum": float(heatmaps[i].min()),
                        "maximum": float(heatmaps[i].max()),
                        "center_row": float(places[i, 0]),
                        "center_col": float(places[i, 1]),
                        "figure": f"figures/{figures[image]}",
                        **(assurance(said, i) if assured else {}),
                    }
                )
    return rows
