"""One picture beside a check that spoke against the maps: a typical photo of it, drawn from what the audit kept.

Nothing is asked of the model again. So the checks that change the photo or the weights (noise, FGSM, new weights, other
differences of logits, a reference) have none: their second map was not kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.commands.audit.faithfulness import LEVELS, REGIONS
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.mosaic import exchanged, pointing
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.verdict import Check
from heatproof.data.mosaics import joined
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.heatmaps import resize
from heatproof.manipulation.masks import frame
from heatproof.metrics.removal import filling, turns
from heatproof.models.classifier import Classifier
from heatproof.report.figures import Panel, gallery
from heatproof.report.style import percent
from heatproof.results.run import Run
from heatproof.types import is_signed

FOLDER = "figures/checks"
"""Apart from the figures that are shown one after the other."""


@dataclass(frozen=True)
class Example:
    """A row of pictures, and what it shows in a sentence."""

    panels: Sequence[Panel]
    columns: Sequence[str]
    title: str


@dataclass(frozen=True)
class Kept:
    """What an audit kept of its photos."""

    settings: Audit
    model: Classifier
    source: Source
    table: pl.DataFrame
    tensors: AuditTensors

    @property
    def signed(self) -> bool:
        return is_signed(self.settings.explainer)

    def typical(self, column: str | pl.Expr) -> dict[str, Any] | None:
        """The photo whose value lies in the middle, so that none is picked."""
        value = pl.col(column) if isinstance(column, str) else column
        known = self.table.with_columns(value.cast(pl.Float64).alias("typical")).filter(
            pl.col("typical").is_finite() & ~pl.col("empty")
        )
        ordered = known.sort("typical", "image")
        return ordered.row(ordered.height // 2, named=True) if ordered.height else None

    def photo(self, row: dict[str, Any]) -> Float[Tensor, "channels height width"]:
        """As the model sees it."""
        return fit(self.source[self.source.ids.index(row["image"])].image, self.model.preprocessing)


def draw_examples(kept: Kept, run: Run, checks: Sequence[Check]) -> dict[str, str]:
    """The figures of the checks that failed or are doubtful and can be drawn.

    Returns:
        Where each lies within the run folder, by the number's name.
    """
    drawn = {}
    for check in checks:
        draw = EXAMPLES.get(check.number)
        example = draw(kept) if draw is not None and check.verdict in ("fail", "doubtful") else None
        if example is not None:
            drawn[check.number] = f"{FOLDER}/{check.number}.png"
            gallery([example.panels], run.path(drawn[check.number]), columns=example.columns, title=example.title)
    return drawn


def of_agreement(kept: Kept) -> Example | None:
    """Map and witness of a photo."""
    row = kept.typical("agreement")
    if row is None:
        return None
    photo, heatmap, witness = _seen(kept, row)
    return Example(
        [
            Panel(photo, caption=_called(kept, row)),
            Panel(photo, heatmap.numpy(), kept.signed),
            Panel(photo, witness.numpy(), True, f"agreement {row['agreement']:.2f}"),
        ],
        ("photo", "the map", "what the model loses"),
        "A photo of middling agreement",
    )


def of_frame(kept: Kept) -> Example | None:
    """The map of a photo, with the frame."""
    row = kept.typical("frame")
    if row is None:
        return None
    photo, heatmap, _ = _seen(kept, row)
    border = frame(heatmap.shape[0], heatmap.shape[1]).numpy()
    told = f"{percent(row['frame'])} of the map lies on the frame"
    return Example(
        [Panel(photo, caption=_called(kept, row)), Panel(photo, heatmap.numpy(), kept.signed, told, border)],
        ("photo", "the map, and the frame"),
        "A photo with a middling share on the frame",
    )


def of_faithfulness(kept: Kept) -> Example | None:
    """A photo with what the map shows first covered, and with what the witness does."""
    row = kept.typical(pl.col("aopc") - pl.col("aopc_random"))
    if row is None:
        return None
    image = kept.photo(row)[None]
    size = image.shape[2], image.shape[3]
    region, fill = max(1, -(-min(size) // REGIONS)), filling(image, "blur", kept.settings.seed)
    panels = [Panel(_picture(image[0]), caption=_called(kept, row))]
    maps = (("aopc", kept.tensors.maps), ("aopc_witness", kept.tensors.witness))
    for column, own in maps:
        fine = resize(own[row["place"]][None].float(), size)
        turn = turns(fine, size, region, "most", seed=kept.settings.seed, ragged=True)
        gone = (turn < max(1, round(max(LEVELS) * (int(turn.amax()) + 1))))[:, None]
        told = f"probability falls by {100 * row[column]:.0f} points, mean of three steps"
        panels.append(Panel(_picture(torch.where(gone, fill, image)[0]), caption=told))
    return Example(
        panels,
        ("photo", "covered where the map shows most", "covered where the model loses most"),
        "A photo of middling faithfulness",
    )


def of_likeness(kept: Kept) -> Example | None:
    """Maps of three photos, from the beginning, the middle and the end of the data."""
    rows = kept.table.filter(~pl.col("empty")).sort("place").rows(named=True)
    if len(rows) < 3:
        return None
    panels = []
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        photo, heatmap, _ = _seen(kept, row)
        panels.append(Panel(photo, heatmap.numpy(), kept.signed, _called(kept, row)))
    return Example(panels, (), "The maps of three photos, from the beginning, the middle and the end of the data")


def of_mosaic(kept: Kept) -> Example | None:
    """A mosaic with the map of one of its classes, and where the photos of that class lie."""
    mosaics = kept.tensors.mosaics
    if mosaics is None:
        return None
    found = pointing(mosaics.shares, mosaics.quarters)
    known = sorted((value, place) for place, value in enumerate(found) if value == value)
    if not known:
        return None
    place = known[len(known) // 2][1]
    classes = mosaics.classes[place].tolist()
    own = kept.tensors.tile_targets()[mosaics.tiles[place]] == classes[0]
    # the quarters of the class, as cells that are outlined
    quarters = own.view(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1).float().numpy()
    share = percent(float(mosaics.shares[place, 0, 0]))
    name = kept.model.class_name(classes[0])
    photo = _mosaic(kept, place)
    heatmap = mosaics.maps[place, 0].numpy()
    return Example(
        [Panel(photo), Panel(photo, heatmap, kept.signed, f"{share} of it in that photo (outlined)", quarters)],
        ("mosaic of four photos", f"map of {name}"),
        "A mosaic of middling value",
    )


def of_swap(kept: Kept) -> Example | None:
    """A mosaic with the two classes whose maps lie most in each other's photos."""
    mosaics = kept.tensors.mosaics
    pair = None if mosaics is None else exchanged(mosaics.shares, mosaics.classes)
    if mosaics is None or pair is None:
        return None
    shown = mosaics.classes.tolist()
    place = next(place for place, classes in enumerate(shown) if set(pair[1]) <= set(classes))
    photo = _mosaic(kept, place)
    maps = [mosaics.maps[place, shown[place].index(one)].numpy() for one in pair[1]]
    names = [kept.model.class_name(one) for one in pair[1]]
    return Example(
        [Panel(photo), *(Panel(photo, own, kept.signed) for own in maps)],
        ("mosaic of four photos", *(f"map of {name}" for name in names)),
        "The two classes whose maps lie most in each other's photos",
    )


EXAMPLES: dict[str, Callable[[Kept], Example | None]] = {
    "agreement": of_agreement,
    "frame": of_frame,
    "faithfulness": of_faithfulness,
    "likeness": of_likeness,
    "mosaic": of_mosaic,
    "mosaic_swap": of_swap,
}
"""What draws it, by the number's name."""


def _seen(kept: Kept, row: dict[str, Any]) -> tuple[Any, Tensor, Tensor]:
    maps, witness = (found[row["place"]].float() for found in (kept.tensors.maps, kept.tensors.witness))
    return _picture(kept.photo(row)), maps, witness


def _picture(image: Float[Tensor, "channels height width"]) -> Any:
    return image.permute(1, 2, 0).numpy()


def _mosaic(kept: Kept, place: int) -> Any:
    assert kept.tensors.mosaics is not None
    tiles = kept.tensors.tiles[kept.tensors.mosaics.tiles[place]].float() / 255
    return _picture(joined(tiles[None], kept.model.input_shape)[0])


def _called(kept: Kept, row: dict[str, Any]) -> str:
    return f"{row['image']}: {kept.model.class_name(row['target'])}"
