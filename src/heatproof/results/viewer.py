"""Small pictures and maps per image, for the viewer of the report: ``viewer/<key>.json`` and its photos.

One file per image, so that processes need not wait for each other and a killed run keeps what it has; ``<key>`` comes
from the image's id, so that a second attempt writes the same files. The content::

    {"image": id, "photo": "<key>.webp", "photo_adversarial": "<key>-other.webp" or null,
     "maps": [{"name": "GradCAM layer4 · tiger cat", "signed": true, "condition": "clean",
               "values": [[...], ...], "native": [rows, cols], ...}]}

Photos are at most 224 pixels a side. ``values`` have four significant digits, at native resolution up to 56 cells a
side; finer maps are averaged down and ``native`` tells their true size. The condition of the first map belongs to
``photo``, all others to ``photo_adversarial`` where there is one (with a fooled model the photo stays the same).
Further keys of a map that are columns of ``images.parquet`` as well (``explainer``, ``epsilon``, ``target``) tell the
page which map to show for a row.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heatproof.errors import InputError
from heatproof.results.run import Run
from heatproof.results.whole import plain

SIDE = 224
"""The longest side of a photo in the viewer."""
CELLS = 56
"""The most cells a side of a map in the viewer."""
QUALITY = 80
"""Of the WebP files: about 8 kB a photo."""


@dataclass(frozen=True)
class View:
    """A map as the viewer shows it.

    Args:
        name: its explainer and class, or whatever tells it from the others.
        values: ``[rows, cols]``.
        signed: whether zero is the middle of its scale.
        condition: what was done to the photo or the model.
        columns: further plain values, by columns of ``images.parquet`` that they are in.
    """

    name: str
    values: NDArray[Any]
    signed: bool = False
    condition: str = "clean"
    columns: Mapping[str, Any] = field(default_factory=dict)


def add_view(
    run: Run,
    image_id: str,
    photo: NDArray[Any],
    maps: Sequence[View],
    other_photo: NDArray[Any] | None = None,
) -> None:
    """Keep what the report's viewer shows of one image; a second call for the same image replaces the first.

    Args:
        run: the run folder.
        image_id: as in the column ``image``.
        photo: ``[rows, cols, channels]``, uint8; the first three are shown, or the first as grey.
        maps: the first belongs to ``photo``.
        other_photo: the adversarial photo, in the same shape; None where the photo is the same under all conditions.

    Raises:
        InputError: a photo or map of another shape or type.
        RunError: the files cannot be written.
    """
    key = view_key(image_id)
    entry: dict[str, Any] = {"image": image_id, "photo": f"{key}.webp", "photo_adversarial": None, "maps": []}
    for given in maps:
        values = np.asarray(given.values, dtype=np.float64)
        if values.ndim != 2 or 0 in values.shape:
            raise InputError(f"expected a heatmap [rows, cols] for the viewer, got the shape {values.shape}")
        columns = {name: plain(value) for name, value in given.columns.items()}
        about = {"condition": given.condition, "signed": given.signed, "name": given.name, **columns}
        shown = [[float(f"{value:.4g}") for value in row] for row in reduced(values)]
        entry["maps"].append({**about, "values": shown, "native": values.shape})
    run.write_bytes(f"viewer/{key}.webp", _webp(photo))
    if other_photo is not None:
        entry["photo_adversarial"] = f"{key}-other.webp"
        run.write_bytes(f"viewer/{key}-other.webp", _webp(other_photo))
    # last, since it names the photos
    run.write_json(f"viewer/{key}.json", entry)


def view_key(image_id: str) -> str:
    """The name that an image's files in ``viewer/`` share."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _webp(photo: NDArray[Any]) -> bytes:
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or 0 in photo.shape:
        raise InputError(
            f"expected a photo [rows, cols, channels] of uint8, got the shape {photo.shape} of {photo.dtype}"
        )
    # what can be looked at: the first three channels, or the first as grey
    photo = photo[..., :3] if photo.shape[-1] >= 3 else np.repeat(photo[..., :1], 3, axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(photo))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def reduced(values: NDArray[Any]) -> NDArray[Any]:
    """Means over equal blocks, so that no side has more than :data:`CELLS` cells; NaN where a block holds nothing."""
    for axis in (0, 1):
        size = values.shape[axis]
        if size > CELLS:
            # as many whole cells per block as needed; the last block may hold fewer
            starts = np.arange(0, size, -(-size // CELLS))
            known = ~np.isnan(values)
            sums = np.add.reduceat(np.where(known, values, 0.0), starts, axis)
            counts = np.add.reduceat(known.astype(np.float64), starts, axis)
            values = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return values
