"""What does the network look at? One photo or a few, one explainer, and a picture for a notebook."""

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from heatproof import catalog
from heatproof.answers.filling import job_of, make_page, progress
from heatproof.answers.given import Model, as_classifier, at_named_layers, built, named
from heatproof.answers.scored import Asked, scored
from heatproof.commands.assurance import caption, cells_of
from heatproof.commands.explain import Explain, column_title, effort, run_explain
from heatproof.commands.photos import open_photos
from heatproof.commands.precision import settle
from heatproof.commands.shown import Figures
from heatproof.data.batches import batches
from heatproof.data.in_memory import Picture, open_tensors, pixels_of
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware, Precision
from heatproof.preprocessing import Preprocessing
from heatproof.processes import Processes
from heatproof.report.figures import Panel, gallery
from heatproof.report.style import percent
from heatproof.results.run import Run
from heatproof.shard import Shard
from heatproof.types import (
    Certified,
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    Interval,
    Logits,
    PerImage,
    Targets,
    WithInterval,
    is_signed,
)

SHOWN = 8
"""Photos of one picture."""


@dataclass(frozen=True, repr=False)
class Explained:
    """Heatmaps with the photos they were made of; a notebook shows the picture.

    Attributes:
        images: as the model saw them, in [0, 1].
        heatmaps: raw, at their native resolution.
        logits: of the same pass.
        targets: the class that is explained, per image.
        model: whose maps they are.
        explainer: that made them.
        ids: what the photos are called.
        folder: the run folder, where one was asked for (``out=``).
        explanation: the same maps with their interval or certificate, where the explainer gives one.
    """

    images: Images
    heatmaps: Heatmaps
    logits: Logits
    targets: Targets
    model: Classifier
    explainer: Explainer
    ids: Sequence[str]
    folder: Path | None = None
    explanation: Explanation | None = None

    @property
    def probabilities(self) -> PerImage:
        """Of the explained class, by softmax."""
        return self.logits.float().softmax(1).gather(1, self.targets[:, None])[:, 0]

    @property
    def classes(self) -> list[str]:
        """The explained classes by name."""
        return [self.model.class_name(int(target)) for target in self.targets]

    def numpy(self) -> NDArray[Any]:
        """The heatmaps as an array ``[batch, rows, cols]``."""
        return Explanation(self.heatmaps, self.logits, self.targets).numpy()

    def picture(self) -> Image.Image:
        """Each photo, and beside it the map over it, with class, probability and the map's own scale."""
        panels = []
        for place in range(min(len(self.images), SHOWN)):
            photo = self.images[place].float().expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
            heatmap = self.heatmaps[place].float().cpu().numpy()
            said = "\n".join(filter(None, (self._said(place), caption(self.explanation, place))))
            shown = Panel(photo, heatmap, is_signed(self.explainer), said, cells_of(self.explanation, place))
            panels.append([Panel(photo, caption=self.ids[place]), shown])
        heads = ["photo", column_title(self.explainer, self.model)]
        with tempfile.TemporaryDirectory(prefix="heatproof-") as folder:
            path = gallery(panels, Path(folder) / "picture.png", columns=heads)
            return Image.open(io.BytesIO(path.read_bytes()))

    def _said(self, place: int) -> str:
        """Class, its number where that is not its name, and its probability."""
        name, number = self.classes[place], int(self.targets[place])
        known = name if str(number) in name.split() else f"{name} ({number})"
        return f"{known}, {percent(float(self.probabilities[place]))}"

    def show(self) -> None:
        """Show the picture: in a notebook below the cell, elsewhere in the system's viewer."""
        try:
            from IPython import get_ipython  # pyright: ignore[reportMissingImports]
            from IPython.display import display  # pyright: ignore[reportMissingImports]
        except ImportError:
            self.picture().show()
            return
        display(self) if get_ipython() else self.picture().show()

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        """Each photo's class and probability, in words."""
        lines = [f"{image}: {self._said(place)}" for place, image in enumerate(self.ids[:SHOWN])]
        more = [f"and {len(self.ids) - SHOWN} more"] if len(self.ids) > SHOWN else []
        shape = "x".join(map(str, self.heatmaps.shape))
        where = f"; {self.folder / 'report.html'}" if self.folder else ""
        flat = self.heatmaps[0].numel() == 1
        more += ["a map of 1x1 says how much, not where: choose an earlier layer"] if flat else []
        named = f"({self.explainer!r} of {self.model.name}: heatmaps {shape}{where})"
        return "\n".join([*lines, *more, named])


def explain(
    model: Model,
    photos: Picture | Source | Sequence[Picture],
    *,
    explainer: str | Explainer = "gradcam()",
    score: Asked | None = None,
    target: str | int | Sequence[str | int] | None = None,
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
        score: what is explained: a name, a spec or an object, unless the explainer names one.
        target: the class by name or number, one for all or one per photo; ``None``: what is predicted.
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
    found = at_named_layers(scoring.explainers, classifier)
    if len(found) != 1:
        raise InputError(f"hp.explain shows one explainer, got {len(found)}; call it once for each")
    job, called, source = job_of(shard, out), _called(photos), _opened(photos, classifier, limit)
    if job.is_share and source is None:
        raise InputError(f"shard={shard!r} is for photos by name or opened data: tensors and pictures are here already")
    ids, images = _images(photos if source is None else _share(source, job, batch_size), classifier)
    targets = _targets(classifier, target, len(source if job.is_share and source is not None else images))
    classes = _classes(targets)
    if job.is_share and source is not None and targets is not None:
        places = {image: place for place, image in enumerate(source.ids)}
        targets = targets[[places[image] for image in ids]]
    folder = None if out is None else Path(out)
    hardware = settle(device, precision, [classifier], lambda one: open_tensors(images), found)
    if folder is not None:
        asked = Explain(explainers=found, targets=classes, top=1, figures=figures)
        data = open_tensors(images, name=called) if source is None else source
        _write(folder, asked, classifier, called, data, hardware, batch_size, overwrite, job)
    hosted = hardware.host(classifier)
    parts = []
    for start in range(0, len(images), batch_size):
        here = slice(start, start + batch_size)
        with hardware.autocast():
            parts.append(found[0](hosted, hardware.bring(images[here]), None if targets is None else targets[here]))
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


def open_photo(photo: Picture, model: Model | None = None) -> Images:
    """One photo as a batch of one, ``[1, channels, rows, cols]`` in [0, 1].

    Args:
        photo: a path, a picture that Pillow has opened, or an array (of 8 bits, or of numbers in [0, 1]).
        model: fit it to this model's input, as every verb does; ``None``: at its own size.

    Raises:
        InputError: it cannot be read, or is no photo.

    >>> open_photo(torch.zeros(3, 5, 4)).shape
    torch.Size([1, 3, 5, 4])
    """
    if model is None:
        pixels = pixels_of(photo)
        return fit(pixels, Preprocessing((pixels.shape[-2], pixels.shape[-1])))[None]
    return fit(pixels_of(photo), as_classifier(model).preprocessing)[None]


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
            raise InputError(f"none of the {photos.count} photos of {photos.name} could be read; {reasons}")
        return [image for batch in found for image in batch.ids], torch.cat([batch.images for batch in found])
    several = list(photos) if isinstance(photos, list | tuple) else [photos]
    names = [Path(photo).name if isinstance(photo, str | Path) else f"photo {n}" for n, photo in enumerate(several)]
    return names, torch.cat([open_photo(photo, model) for photo in several])


def _targets(model: Classifier, target: Any, count: int) -> Targets | None:
    if target is None:
        return None
    wanted = [target] * count if isinstance(target, str | int) else list(target)
    if len(wanted) != count:
        raise InputError(f"one target for all photos or one for each: expected {count}, got {len(wanted)}")
    return torch.tensor([model.class_index(one if isinstance(one, str) else int(one)) for one in wanted])


def _classes(targets: Targets | None) -> tuple[int, ...]:
    return () if targets is None else tuple(dict.fromkeys(targets.tolist()))


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
) -> None:
    """The run folder of ``heatproof explain``, with the classes that were asked for."""
    settings = {"images": called, "model": model.name, "asked": asked, "batch_size": batch_size}
    settings |= {} if hardware.precision == "fp32" else {"precision": hardware.precision}
    with Run.start(folder, command="explain", settings=settings, overwrite=overwrite, page=make_page, shard=job) as run:
        shared = Processes(job=job)
        total = shared.photos(len(source), batch_size)
        how: dict[str, Any] = {"hardware": hardware, "processes": shared, "batch_size": batch_size}
        with progress("explaining", total, run, lambda: effort(asked, model, total, hardware, batch_size)) as advance:
            if not run.done:
                run_explain(asked, model, source, run, advance=advance, **how)


def _called(photos: Any) -> str:
    if isinstance(photos, str | Path | Source):
        return str(named(photos))
    return "photos"
