"""What a network looks at, shown: photos, the maps over them, and the same in sentences, rows and a table."""

import base64
import html
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from heatproof.answers.result import as_pandas, as_table, html_table
from heatproof.commands.assurance import assurance, caption, cells_of
from heatproof.commands.explain import map_numbers
from heatproof.commands.titles import column_title, is_classless
from heatproof.errors import HeatproofError, InputError
from heatproof.explainers.cam import CAM, cam_layer
from heatproof.glossary import heads
from heatproof.models.classifier import Classifier
from heatproof.models.layers import DEFAULT, PIXELS, at_named_layer, default_layer, layer_name
from heatproof.report.figures import Panel, gallery
from heatproof.report.style import percent
from heatproof.types import (
    AtLayer,
    Explainer,
    Explanation,
    Heatmaps,
    Images,
    Logits,
    PerImage,
    Seen,
    Targets,
    inside,
    is_signed,
)

if TYPE_CHECKING:
    import pandas  # an optional library

SHOWN = 8
"""Photos of one picture."""
COLUMNS = ("image", "target_name", "probability", "prediction_name", "confidence", "minimum", "maximum")
"""Those that a notebook shows."""


@dataclass(frozen=True, repr=False, eq=False)
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

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The layers whose activations were read, also where none was named; empty for maps of the pixels."""
        return layers_of(self.explainer, self.model, self.images)

    @property
    def answer(self) -> list[str]:
        """What is seen of each photo, in sentences, and what is to be known of the maps."""
        lines = [f"{image}: {self._said(place)}; {self._scale(place)}" for place, image in enumerate(self.ids[:SHOWN])]
        more = [f"and {len(self.ids) - SHOWN} more"] if len(self.ids) > SHOWN else []
        flat = self.heatmaps[0].numel() == 1
        if is_classless(self.explainer):
            more.append(f"{self.explainer!r} asks no class: its map is the same for every class")
        more += ["a map of 1x1 says how much, not where: choose an earlier layer"] if flat else []
        return [*lines, *more]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per photo and class, in the columns of ``images.parquet``."""
        confidences, predictions = (found.tolist() for found in self.logits.float().softmax(1).max(1))
        numbers, probabilities = map_numbers(self.heatmaps.float()), self.probabilities.tolist()
        return [
            {
                "image": image,
                "target": target,
                "target_name": self.model.class_name(target),
                "probability": probabilities[place],
                "prediction": predictions[place],
                "prediction_name": self.model.class_name(predictions[place]),
                "confidence": confidences[place],
                "model": self.model.name,
                "explainer": repr(self.explainer),
                "layer": ", ".join(self.layers) or None,
                **{name: values[place] for name, values in numbers.items()},
                **self._assured(place),
            }
            for place, (image, target) in enumerate(zip(self.ids, self.targets.tolist(), strict=True))
        ]

    @property
    def table(self) -> pl.DataFrame:
        """The rows as a table; ``.to_pandas()`` gives them to pandas."""
        return as_table(self.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows as a ``pandas.DataFrame``.

        Raises:
            InputError: pandas is not installed.
        """
        return as_pandas(self.table)

    def numpy(self) -> NDArray[Any]:
        """The heatmaps as an array ``[batch, rows, cols]``."""
        return self.heatmaps.detach().float().cpu().numpy()

    def picture(self) -> Image.Image:
        """Each photo, and beside it the map over it, with class, probability and the map's own scale."""
        return Image.open(io.BytesIO(self._png))

    def save(self, path: Path | str) -> Path:
        """Write the picture, in the format that the name ends in.

        Raises:
            InputError: the name ends in no format of pictures, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in Image.registered_extensions():
            raise InputError(f"{path.name!r} ends in no format of pictures; name it map.png, map.jpg or map.pdf")
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {path.parent} to write {path.name} into")
        picture = self.picture()
        try:
            # formats without transparency
            picture.convert("RGB").save(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} cannot be written: {error}") from error
        return path

    @cached_property
    def _png(self) -> bytes:
        panels = []
        for place in range(min(len(self.images), SHOWN)):
            photo = self.images[place].float()
            photo = photo if len(photo) == 3 else photo[:1].expand(3, -1, -1)
            heatmap = self.heatmaps[place].float().cpu().numpy()
            said = "\n".join(filter(None, (self._said(place), caption(self.explanation, place))))
            shown = Panel(_array(photo), heatmap, is_signed(self.explainer), said, cells_of(self.explanation, place))
            panels.append([Panel(_array(photo), caption=self.ids[place]), shown])
        titles = ["photo", column_title(self.explainer, self.model)]
        with tempfile.TemporaryDirectory(prefix="heatproof-") as folder:
            return gallery(panels, Path(folder) / "picture.png", columns=titles).read_bytes()

    def _said(self, place: int) -> str:
        """Class, its number where that is not its name, and its probability; the predicted class if it is another."""
        target, prediction = int(self.targets[place]), int(self.logits[place].argmax())
        said = f"{self._named(target)}, {percent(float(self.probabilities[place]))}"
        return said if target == prediction else f"{said} (predicted: {self._named(prediction)})"

    def _named(self, number: int) -> str:
        name = self.model.class_name(number)
        return name if str(number) in name.split() else f"{name} ({number})"

    def _scale(self, place: int) -> str:
        low, high = (float(end) for end in self.heatmaps[place].aminmax())
        return "an empty map" if low == high == 0 else f"map from {low:.3g} to {high:.3g}"

    def _assured(self, place: int) -> dict[str, Any]:
        found = assurance(self.explanation, place)
        return {} if all(value is None for value in found.values()) else found

    def _where(self) -> str:
        """Whose maps these are, at which layer, and how fine."""
        at = f" at {', '.join(self.layers)}" if self.layers else ""
        return f"{self.explainer!r} of {self.model.name}{at}: heatmaps {'x'.join(map(str, self.heatmaps.shape))}"

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
        return self._png

    def _repr_html_(self) -> str:
        """For notebooks, which show this and not the picture where they have both: the picture, and the rows."""
        told = html.escape("; ".join(self.answer), quote=True)
        picture = io.BytesIO()
        # a notebook keeps the PNG beside it, and need not grow by as much again
        self.picture().convert("RGB").save(picture, "jpeg", quality=88)
        source = base64.b64encode(picture.getvalue()).decode()
        rows = self.rows[:SHOWN]
        notes = [self._where(), *self.answer[len(rows) :]]
        notes += [f"{self.folder / 'report.html'}"] if self.folder else []
        return "".join(
            [
                f'<img style="max-width:100%" alt="{told}" src="data:image/jpeg;base64,{source}">',
                html_table(rows, heads("explain", *COLUMNS)),
                *(f"<p>{html.escape(note)}</p>" for note in notes),
            ]
        )

    def __repr__(self) -> str:
        """Each photo's class and probability, in words."""
        where = f"; {self.folder / 'report.html'}" if self.folder else ""
        return "\n".join([*self.answer, f"({self._where()}{where})"])


def explained_of(explanation: Explanation) -> Explained:
    """What an explainer handed out, as :func:`heatproof.explain` hands it out.

    Raises:
        InputError: it does not know its photos.
    """
    seen = explanation.seen
    if seen is None:
        raise InputError(
            "this explanation does not know its photos: it was put together by hand, copied or unpickled; call the "
            "explainer again, or draw with hp.gallery([[hp.Panel(photo, heatmap)]], FILE)"
        )
    width = len(str(max(len(seen.images) - 1, 0)))
    ids = seen.names or tuple(f"{place:0{width}d}" for place in range(len(seen.images)))
    heatmaps, logits, targets = (part.detach() for part in explanation)
    model = seen.model if isinstance(seen.model, Classifier) else _named_network(seen)
    explainer = at_named_layer(model, seen.explainer)
    return Explained(seen.images, heatmaps, logits, targets, model, explainer, ids, explanation=explanation)


def _named_network(seen: Seen) -> Classifier:
    """A bare network with a name and names of classes, for the words beside its maps."""
    rows, cols = seen.images.shape[2:]
    return Classifier(seen.model, input_size=(rows, cols), channels=seen.images.shape[1], probabilities=False)


def layers_of(explainer: Explainer, model: nn.Module, images: Images) -> tuple[str, ...]:
    """The layers that an explainer, or those that it wraps, read of these images."""
    within = inside(explainer)
    if within:
        return tuple(dict.fromkeys(layer for one in within for layer in layers_of(one, model, images)))
    if not isinstance(explainer, AtLayer):
        return ()
    asked, kind = explainer.layer, type(explainer).__name__
    if asked is None and kind == "LRP":
        return ()  # of the pixels
    try:
        if asked is None or asked == DEFAULT:
            return (cam_layer(model, images[:1]) if isinstance(explainer, CAM) else default_layer(model, images),)
        found = layer_name(model, asked)
        return () if found == PIXELS else (found,)
    except HeatproofError:
        return ()  # a model that was changed since


def _array(photo: Tensor) -> NDArray[Any]:
    """``[rows, cols, 3]`` in [0, 1]; what a bare network is given in other units fills that range."""
    low, high = (float(end) for end in photo.aminmax())
    if low < 0 or high > 1:
        photo = (photo - low) / (high - low)
    return photo.permute(1, 2, 0).cpu().numpy()
