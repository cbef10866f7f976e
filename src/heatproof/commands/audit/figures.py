"""The pictures of an audit: the photos of lowest trust, and the mosaics of a possible swap."""

from collections.abc import Sequence
from statistics import fmean

import polars as pl

from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.mosaic import exchanged
from heatproof.commands.audit.telling import Telling, telling_square
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.data.mosaics import joined
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.report.figures import Panel, gallery
from heatproof.report.style import percent
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.viewer import View, add_view
from heatproof.types import is_signed


def show_disagreement(
    settings: Audit,
    model: Classifier,
    source: Source,
    run: Run,
    table: pl.DataFrame,
    tensors: AuditTensors,
    images: Sequence[str],
    hardware: Hardware = Hardware(),
) -> None:
    """The photos of lowest trust, with map, losses and the square that tells most: a figure, and more to view."""
    # of the whole data, only what is drawn: a row as a dict takes two kilobytes
    wanted = set(images)
    positions = {image: place for place, image in enumerate(source.ids) if image in wanted}
    rows = {row["image"]: row for row in table.filter(pl.col("image").is_in(images)).iter_rows(named=True)}
    signed = is_signed(settings.explainer)
    panels, changes = [], 0
    for image in images:
        row = rows[image]
        pixels = fit(source[positions[image]].image, model.preprocessing)
        photo = pixels.permute(1, 2, 0).numpy()
        heatmap, witness = (found[row["place"]] for found in (tensors.maps, tensors.witness))
        name = model.class_name(row["target"])
        if len(panels) < settings.shown:
            told = telling_square(model, pixels, heatmap, row["target"], hardware)
            square = told.cover.numpy()
            panels.append(
                [
                    Panel(photo, caption=f"{image}: {name}, {percent(told.before)}", cells=square),
                    Panel(photo, heatmap.numpy(), signed, _of_map(told, row["trust"]), square),
                    Panel(photo, told.losses.numpy(), True, _of_losses(told), square),
                    Panel(told.covered.permute(1, 2, 0).numpy(), caption=_of_covered(model, told, row["target"])),
                ]
            )
            changes += told.changes
        views = [
            View(f"{what} · {name}", values, sign, columns={"target": row["target"]})
            for what, sign, values in (
                (repr(settings.explainer), signed, heatmap.numpy()),
                ("witness", True, witness.numpy()),
            )
        ]
        add_view(run, image, (photo * 255).round().astype("uint8"), views)
    if panels:
        gallery(
            panels,
            run.path("figures/disagreement.png"),
            columns=(
                "photo",
                "map",
                "logits that the class's lead loses, the square covered around each place",
                "the square covered",
            ),
            title=title_of(changes, len(panels)),
        )


def title_of(changes: int, shown: int) -> str:
    """What is seen of the photos that are shown: of how many covering the square changes the answer.

    >>> title_of(2, 4)
    'The photos of lowest trust: covering the square that tells most against the map changes 2 of 4 answers'
    """
    if not changes:
        return "The photos of lowest trust: no square that their maps leave out changes these answers by itself"
    answers = f"{changes} of {counted(shown, 'answer')}"
    return f"The photos of lowest trust: covering the square that tells most against the map changes {answers}"


def _of_map(told: Telling, trust: float | None) -> str:
    known = "" if trust is None else f"; trust {trust:.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{percent(told.shown)} of the map is in the square{known}"


def _of_losses(told: Telling) -> str:
    """What is lost in the square, in the map's unit, beside the most that is lost anywhere."""
    return f"in the square {told.loss:.2g} logits, at most {float(told.losses.max()):.2g}"


def _of_covered(model: Classifier, told: Telling, target: int) -> str:
    """What the model says of the covered photo, and of what it takes it where that is another class."""
    said = f"{model.class_name(target)}, {percent(told.after)}"
    if told.named != target:
        return f"{said}; taken for {model.class_name(told.named)}"
    return said if told.changes else f"{said}: nearly as before"


def show_mosaics(settings: Audit, model: Classifier, run: Run, tensors: AuditTensors) -> None:
    """Mosaics with the two classes whose maps lie most in each other's photos."""
    mosaics = tensors.mosaics
    pair = None if mosaics is None else exchanged(mosaics.shares, mosaics.classes)
    if mosaics is None or pair is None:
        return
    size = model.input_shape
    signed = is_signed(settings.explainer)
    panels = []
    for place, classes in enumerate(mosaics.classes.tolist()):
        if set(pair[1]) <= set(classes) and len(panels) < settings.shown // 2:
            tiles = tensors.tiles[mosaics.tiles[place]].float() / 255
            photo = joined(tiles[None], size)[0].permute(1, 2, 0).numpy()
            maps = [(c, mosaics.maps[place, classes.index(c)].numpy()) for c in pair[1]]
            panels.append([Panel(photo), *(Panel(photo, own, signed, model.class_name(c)) for c, own in maps)])
    if panels:
        gallery(
            panels,
            run.path("figures/mosaics.png"),
            columns=("mosaic", "map of one class", "map of the other"),
            title="The two classes whose maps lie most in each other's photos"
            if fmean(pair[0]) > 0
            else "Mosaics of four photos, and the maps of two classes: each keeps to its own photo",
        )
