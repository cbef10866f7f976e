"""What does the network look at? One photo or a few, one explainer, and an answer for a notebook."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heatproof import catalog
from heatproof.answers.explained import Explained
from heatproof.answers.filling import job_of, make_page, progress, same_photos
from heatproof.answers.given import at_named_layers, built, named
from heatproof.answers.opened import Model, as_classifier, open_photos_for, spread
from heatproof.answers.scored import Asked, scored
from heatproof.commands.explain import Explain, at_layers, effort, run_explain
from heatproof.commands.photos import open_photos
from heatproof.commands.precision import settle
from heatproof.commands.shown import Figures
from heatproof.data.batches import batches
from heatproof.data.in_memory import Picture, open_tensors
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.habits import checked_verb
from heatproof.models.classifier import Classifier, class_numbers
from heatproof.models.hardware import Hardware, Precision
from heatproof.models.layers import layer_name
from heatproof.processes import Processes
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.shard import Shard
from heatproof.types import Certified, Classes, Explainer, Explanation, Images, Interval, Layered, WithInterval


@checked_verb
def explain(
    model: Model,
    photos: Picture | Source | Sequence[Picture],
    *,
    explainer: str | Explainer = "gradcam()",
    layer: Layered = None,
    score: Asked | None = None,
    target: Classes | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "fp32",
    figures: Figures = None,
    shard: str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Explained:
    """Heatmaps of a photo, of several, of a folder or of a batch of images.

    Args:
        photos: a path, a picture of Pillow's, an array, several of these, a data name, or images in [0, 1].
        layer: by its name, or the module, for an explainer that names none; ``None``: the model's default.
        score: what is explained: a name, a spec or an object, unless the explainer names one.
        target: the class by name or number, one for all or one per photo; of one photo also several, each of which
            gets a map; ``None``: what is predicted.
        limit: of data by name, at most so many photos.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the device computes in it and the maps bear it.
        figures: in the run folder so many photos are drawn, or ``"all"``; ``None``: all of at most 50, else 20.
        shard: ``"2/8"``: the second of eight shares of photos by name, into a folder that :func:`merge` joins; only its
            photos are handed back.
        out: also write a run folder, with its page.

    Raises:
        HeatproofError: a model, photos, a class or an explainer that do not fit; the text says the way out.
    """
    scoring = scored(score, built(explainer, catalog.EXPLAINERS, "explainer"), [as_classifier(model)])
    (classifier,) = scoring.models
    found = at_named_layers(_at_layer(scoring.explainers, layer, classifier), classifier)
    if len(found) != 1:
        raise InputError(f"hp.explain shows one explainer, got {len(found)}; call it once for each")
    photos = list(photos) if isinstance(photos, Iterator) else photos
    job, called, source = job_of(shard, out), _called(photos), _opened(photos, classifier, limit)
    if job.is_share and source is None:
        raise InputError(f"shard={shard!r} is for photos by name or opened data: tensors and pictures are here already")
    ids, images = _images(photos if source is None else _share(source, job, batch_size), classifier)
    given, targets = images, _targets(classifier, target)
    classes = _classes(targets)
    if targets is not None and targets.ndim and source is not None and (job.is_share or len(source) > 1):
        targets = _of_those_read(targets, source, ids)
    elif targets is not None and targets.ndim:
        images, names = spread(images, tuple(ids), len(targets))
        ids = list(names)
    folder = None if out is None else Path(out)
    hardware = settle(device, precision, [classifier], lambda one: open_tensors(given), found)
    if folder is not None:
        asked = Explain(explainers=found, targets=classes, top=1, figures=figures)
        data = open_tensors(given, name=called) if source is None else source
        _write(folder, asked, classifier, called, data, hardware, batch_size, overwrite, job, limit)
    hosted = hardware.host(classifier)
    if targets is not None:
        targets = targets.expand(len(images))
    parts: list[Explanation] = []
    for start in range(0, len(images), batch_size):
        here = slice(start, start + batch_size)
        with hardware.autocast():
            parts.append(found[0](hosted, hardware.bring(images[here]), None if targets is None else targets[here]))
        parts[-1].remember(None)  # the photos are here already, and may be many for a GPU
    whole = _together(parts)
    return Explained(images, *whole, hosted, found[0], ids, folder, whole)


def _together(parts: Sequence[Explanation]) -> Explanation:
    """The parts as one, with their interval or certificate."""
    whole = Explanation(*(torch.cat(part) for part in zip(*parts, strict=True)))
    intervals = [part.interval for part in parts if part.interval is not None]
    certificates = [part.certificate for part in parts if part.certificate is not None]
    if len(intervals) == len(parts):
        lower, upper = (torch.cat([getattr(one, side) for one in intervals]) for side in ("lower", "upper"))
        return WithInterval.of(whole, Interval(lower, upper, intervals[0].level))
    if len(certificates) == len(parts):
        cells = [one.cells for one in certificates if one.cells is not None]
        share = torch.cat([one.share for one in certificates])
        return Certified.of(whole, certificates[0]._replace(share=share, cells=torch.cat(cells) if cells else None))
    return whole


def _opened(photos: Any, model: Classifier, limit: int | None) -> Source | None:
    """Photos by name, or opened already; ``None`` for what is in memory."""
    texts = isinstance(photos, str | Path) or (
        isinstance(photos, list | tuple) and all(isinstance(photo, str | Path) for photo in photos)
    )
    if texts:
        return open_photos(model, photos, limit=limit, labels_needed=False)
    return photos if isinstance(photos, Source) else None


def _share(source: Source, job: Shard, batch_size: int) -> Source:
    """The photos of the parts that are this shard's."""
    if not job.is_share:
        return source
    parts = job.parts(-(-len(source) // batch_size))
    places = [place for n in parts for place in range(n * batch_size, min((n + 1) * batch_size, len(source)))]
    return replace(source, positions=[source.positions[place] for place in places])


def _images(photos: Any, model: Classifier) -> tuple[list[str], Images]:
    """Names and pixels: a batch as it is, all else fitted to the model."""
    if isinstance(photos, Tensor) and photos.ndim == 4 and photos.is_floating_point():
        width = len(str(max(len(photos) - 1, 0)))
        return [f"{place:0{width}d}" for place in range(len(photos))], photos
    if isinstance(photos, Source):
        found = list(batches(photos, model.preprocessing, 16))
        if not found:
            reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in photos.skipped[:3])
            raise InputError(f"none of the {counted(photos.count)} of {photos.name} could be read; {reasons}")
        return [image for batch in found for image in batch.ids], torch.cat([batch.images for batch in found])
    images, names = open_photos_for(model, photos)
    return list(names), images.cpu()


def _at_layer(explainers: Sequence[Explainer], layer: Layered, model: Classifier) -> tuple[Explainer, ...]:
    """The explainers at the layer that is asked for.

    Raises:
        InputError: one reads no layer, or names one itself.
        LayerError: the model has no such layer.
    """
    if layer is None:
        return tuple(explainers)
    name = layer_name(model, layer)
    placed = at_layers(explainers, [name])
    for before, after in zip(explainers, placed, strict=True):
        if before == after:
            raise InputError(f"layer={name!r} is for explainers that read a layer and name none, got {before!r}")
    return placed


def _targets(model: Classifier, target: Any) -> Tensor | None:
    """Classes as numbers: one for all photos without a dimension, one for each with one.

    Raises:
        InputError: what is no class.
    """
    if target is None:
        return None
    numbers = class_numbers(model, target).cpu().long()
    for number in numbers.flatten().tolist():
        model.class_index(number)
    return numbers


def _of_those_read(targets: Tensor, source: Source, ids: Sequence[str]) -> Tensor:
    """The classes of the photos that could be read, and are this shard's, of one class for each photo.

    Raises:
        InputError: there are fewer classes, or more.
    """
    if len(targets) != len(source):
        raise InputError(
            f"one class for all photos or one for each: expected {len(source)}, got {len(targets)}; of one photo alone "
            "several classes get a map each"
        )
    places = {image: place for place, image in enumerate(source.ids)}
    return targets[[places[image] for image in ids]]


def _classes(targets: Tensor | None) -> tuple[int, ...]:
    return () if targets is None else tuple(dict.fromkeys(targets.flatten().tolist()))


def _write(
    folder: Path,
    asked: Explain,
    model: Classifier,
    called: str,
    source: Source,
    hardware: Hardware,
    batch_size: int,
    overwrite: bool,
    job: Shard,
    limit: int | None,
) -> None:
    """The run folder of ``heatproof explain``, with the classes that were asked for."""
    settings = {"images": called, "model": model.name, "asked": asked, "batch_size": batch_size}
    settings |= {} if hardware.precision == "fp32" else {"precision": hardware.precision}
    settings |= {} if limit is None else {"limit": limit}
    with Run.start(folder, command="explain", settings=settings, overwrite=overwrite, page=make_page, shard=job) as run:
        shared = Processes(job=job)
        total = shared.photos(len(source), batch_size)
        how: dict[str, Any] = {"hardware": hardware, "processes": shared, "batch_size": batch_size}
        with progress("explaining", total, run, lambda: effort(asked, model, total, hardware, batch_size)) as advance:
            same_photos(run, source)
            if not run.done:
                run_explain(asked, model, source, run, advance=advance, **how)


def _called(photos: Any) -> str:
    if isinstance(photos, str | Path | Source):
        return str(named(photos))
    return "photos"
