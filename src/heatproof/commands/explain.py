"""What does the network look at? Heatmaps of photos: a row per class, a column per explainer."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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
from heatproof.commands.effort import Effort, rehearsal
from heatproof.commands.record import describe
from heatproof.commands.shown import Figures, Shown, figure_count, seen, told
from heatproof.commands.titles import column_title, is_classless
from heatproof.commands.undrawn import MOST, Undrawn, keep
from heatproof.data.batches import Batch
from heatproof.data.channels import DARK
from heatproof.data.parts import parts
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import Grid, explain_together
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import check_layer
from heatproof.processes import Processes
from heatproof.report.drawing import DrawnBeside
from heatproof.report.figures import explanation_grid
from heatproof.report.words import counted
from heatproof.results.names import figure_names, file_names
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import summarise
from heatproof.results.viewer import View, add_view
from heatproof.types import AtLayer, Explainer, Heatmaps, changed_inside, inside, is_signed, settings

T = TypeVar("T")

STANDARD = (GradCAM(), GradCAM(relu=False), GradCAM(counterfactual=True))
"""What speaks for the class, what speaks for and against it, and what speaks against it."""
NEARLY_BLACK = DARK / 65535
"""The brightest pixel, in [0, 1], of a photo that is said to be nearly black."""
AHEAD = 2
"""Parts that may wait for their figures while the network goes on."""


@settings
class Explain:
    """Settings of :func:`run_explain`.

    Args:
        explainers: one column each.
        targets: classes by number, one row each; empty: the ``top`` predicted classes of each photo.
        top: how many predicted classes.
        figures: how many photos are drawn, and shown in the page, the most interesting first
            (:mod:`heatproof.commands.shown`); ``"all"``; or ``None``: all of at most 50 photos, else 20.
        keep_heatmaps: also write the raw maps, ``heatmaps/<explainer>.safetensors``.
        pdf: also write each figure as PDF.

    Raises:
        InputError: ``figures`` is neither ``"all"`` nor a number from 0 on.
    """

    explainers: tuple[Explainer, ...] = STANDARD
    targets: tuple[int, ...] = ()
    top: int = 2
    keep_heatmaps: bool = False
    pdf: bool = False
    figures: Figures = None

    def __post_init__(self) -> None:
        known = self.figures is None or self.figures == "all"
        if not known and (not isinstance(self.figures, int) or isinstance(self.figures, bool) or self.figures < 0):
            raise InputError(f"figures is a number of photos from 0 on, or 'all', got {self.figures!r}")


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

    Killed, it goes on after its last whole part of ``batch_size`` photos, which it must keep; processes share parts.

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
    count = figure_count(settings.figures, len(source))
    shown = Shown(run, figure_names(source.ids), count, outdo=count < len(source) and count <= MOST)
    done = {number for number in range(-(-len(source) // batch_size)) if run.has_part(number)}
    advance(sum(min(batch_size, len(source) - number * batch_size) for number in done))
    waiting: deque[_Part] = deque()
    with DrawnBeside() as beside:
        for number, batch, skipped in parts(source, model.preprocessing, batch_size, processes, done.__contains__):
            part = _Part(number, [], skipped, [], [])
            if batch is not None:
                part = _explain_part(settings, model, batch, part, hardware, shown, beside)
            waiting.append(part)
            while waiting and (len(waiting) > AHEAD or waiting[0].drawn):
                advance(waiting.popleft().keep(shown))
        for part in waiting:
            advance(part.keep(shown))
        processes.wait()
        _draw_waiting(settings, model, shown, processes, beside)
    processes.wait()
    if not processes.ends:
        return {}
    return _end(settings, source, run, shown)


def _draw_waiting(
    settings: Explain, model: Classifier, shown: Shown, processes: Processes, beside: DrawnBeside
) -> None:
    """This process's share of the figures that waited until all photos were seen."""
    run, waiting = shown.run, Undrawn(shown.run)
    images = shown.first(alone=processes.count == 1) if waiting else []
    figures = [
        _show(settings, model, run, image, *found, 0, shown, beside)
        for image in images[processes.index :: processes.count]
        if (found := waiting.of(image)) is not None
    ]
    for figure in figures:
        figure.result()
    processes.wait()
    if processes.index == 0:
        waiting.delete()


def effort(
    settings: Explain, model: Classifier, photos: int, hardware: Hardware = Hardware(), batch_size: int = 16
) -> Effort | None:
    """What the maps of so many photos take; figures are drawn meanwhile."""

    def explained(model: Classifier, batch: Batch) -> None:
        _rows(settings.explainers, model, batch, _explained(settings, model, batch, hardware))

    return rehearsal([model], photos, explained, hardware, batch_size)


class _Part(NamedTuple):
    """A part that is explained, and whose figures may still be drawn.

    Attributes:
        number: of the part.
        rows: its rows of the table.
        skipped: its photos that could not be read.
        figures: what waits for its figures.
        outdone: photos of earlier parts that need not be shown any more.
    """

    number: int
    rows: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    figures: list[Future[None]]
    outdone: list[str]

    @property
    def drawn(self) -> bool:
        return all(figure.done() for figure in self.figures)

    def keep(self, shown: Shown) -> int:
        """Write the rows, once all figures are there; hands back how many photos the part has."""
        for figure in self.figures:
            figure.result()
        shown.run.append_rows(self.number, self.rows, self.skipped)
        shown.delete(self.outdone)
        return len({row["image"] for row in self.rows}) + len(self.skipped)


def _end(settings: Explain, source: Source, run: Run, shown: Shown) -> dict[str, Any]:
    """The table and the summary of all parts."""
    skipped = all_skipped(run, source)
    table = run.merge(known=[source.ids])
    if not table.height:
        run.write_json("summary.json", {"rows": [], "skipped": skipped})
        raise InputError(f"none of the {counted(source.count)} of {source.name} could be explained; {_reasons(source)}")
    table = shown.end(table)
    run.write_parquet("images.parquet", table)
    measured = ["confidence", "empty", *(column for column in COLUMNS if column in table.columns)]
    summary = {
        "rows": [row.plain() for row in summarise(table, ["model", "explainer"], measured)],
        "answer": [
            *seen(table, {repr(one) for one in settings.explainers if is_classless(one)}),
            *told(shown.count, table["image"].n_unique(), table["label"].null_count() < table.height),
        ],
        "skipped": skipped,
    }
    run.write_json("summary.json", summary)
    return summary


def _explain_part(
    settings: Explain,
    model: Classifier,
    batch: Batch,
    part: _Part,
    hardware: Hardware,
    shown: Shown,
    beside: DrawnBeside,
) -> _Part:
    """The part with its rows and all but its figures, which are begun."""
    grid = _explained(settings, model, batch, hardware)
    rows = _rows(settings.explainers, model, batch, grid)
    wanted, outdone = shown.add(rows)
    run, figures = shown.run, []
    if shown.outdo and not any_assurance(grid):
        keep(run, part.number, batch, grid, wanted)
    else:
        figures = [
            _show(settings, model, run, image, batch.images[place], grid, place, shown, beside)
            for place, image in enumerate(batch.ids)
            if image in wanted
        ]
    if settings.keep_heatmaps:
        _write_heatmaps(run, part.number, batch, settings.explainers, grid)
    return part._replace(rows=rows, figures=figures, outdone=outdone)


def _show(
    settings: Explain,
    model: Classifier,
    run: Run,
    image: str,
    photo: Tensor,
    grid: Grid,
    place: int,
    shown: Shown,
    beside: DrawnBeside,
) -> Future[None]:
    """Begin the figure of photo ``place`` of ``grid``, and write what the viewer shows of it."""
    figure, title = run.path(shown.path(image)), f"{image} · {model.name}{_of_dark(photo)}"
    begun = draw_grid(figure, model, photo, settings.explainers, grid, place, title, settings.pdf, beside.draw)
    add_grid_view(run, image, model, photo, settings.explainers, grid, place)
    return begun


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
            f"{column_title(explainer, model)} · {model.class_name(target)}{_of_dark(image)}".replace("\n", " "),
            maps[place, row].float().cpu().numpy(),
            signed=is_signed(explainer),
            columns={"explainer": repr(explainer), "target": target},
        )
        for explainer, maps in zip(explainers, grid.heatmaps, strict=True)
        for row, target in enumerate(grid.targets[place].tolist())
    ]
    add_view(run, name, _bytes(image), maps)


def _of_dark(image: Tensor) -> str:
    """What is said beside a photo in which nobody sees anything, and whose map is drawn all the same."""
    return " · the photo is nearly black as the network gets it" if float(image.max()) <= NEARLY_BLACK else ""


def _bytes(image: Tensor) -> NDArray[np.uint8]:
    """``[rows, cols, channels]`` in 8 bits."""
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _reasons(source: Source) -> str:
    return "; ".join(f"{entry['image']}: {entry['reason']}" for entry in source.skipped[:3]) or "it holds none"


def draw_grid(
    path: Path,
    model: Classifier,
    image: Tensor,
    explainers: Sequence[Explainer],
    grid: Grid,
    place: int,
    title: str,
    pdf: bool = False,
    draw: Callable[..., T] = explanation_grid,
) -> T:
    """The figure of photo ``place`` of ``grid``; ``image`` is ``[channels, rows, cols]`` in [0, 1].

    Args:
        draw: what draws it, here and now or elsewhere.

    Returns:
        What ``draw`` hands back.
    """
    probabilities = grid.logits[place].float().softmax(0).cpu()
    likeliest = probabilities.topk(min(5, len(probabilities)))
    classes = grid.targets[place].tolist()
    return draw(
        _bytes(image),
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


def _rows(explainers: Sequence[Explainer], model: Classifier, batch: Batch, grid: Grid) -> list[dict[str, Any]]:
    probabilities = grid.logits.float().softmax(1)
    confidences, predictions = (found.tolist() for found in probabilities.max(1))
    labels = [label if label >= 0 else None for label in batch.labels.tolist()]
    shares = probabilities.gather(1, grid.targets).tolist()
    targets = grid.targets.tolist()
    rows, assured = [], any_assurance(grid)
    for number, (explainer, maps) in enumerate(zip(explainers, grid.heatmaps, strict=True)):
        for column in range(grid.targets.shape[1]):
            said = explanation_of(grid, number, column)
            numbers = map_numbers(maps[:, column].float())
            for i, image in enumerate(batch.ids):
                target, prediction = targets[i][column], predictions[i]
                rows.append(
                    {
                        "image": image,
                        "label": labels[i],
                        "target": target,
                        "target_name": model.class_name(target),
                        "prediction": prediction,
                        "prediction_name": model.class_name(prediction),
                        "confidence": confidences[i],
                        "probability": shares[i][column],
                        "model": model.name,
                        "explainer": repr(explainer),
                        "attack": None,
                        "epsilon": 0.0,
                        **{name: values[i] for name, values in numbers.items()},
                        **(assurance(said, i) if assured else {}),
                    }
                )
    return rows


def map_numbers(heatmaps: Heatmaps) -> dict[str, list[Any]]:
    """What the table tells of each map; places as shares of its rows and columns."""
    places = (algebra.center_of_mass(heatmaps) + 0.5) / torch.tensor(heatmaps.shape[1:], device=heatmaps.device)
    flat = heatmaps.flatten(1)
    found = {"empty": algebra.is_empty(heatmaps), "minimum": flat.amin(1), "maximum": flat.amax(1)}
    found |= {"center_row": places[:, 0], "center_col": places[:, 1]}
    return {name: values.tolist() for name, values in found.items()}
