"""The patch in an image that calls up a backdoor."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import InputError, did_you_mean
from heatproof.manipulation.masks import Cells
from heatproof.types import Images, settings

Place = Literal["top_left", "top_right", "bottom_left", "bottom_right", "center"]
PLACES: tuple[Place, ...] = ("top_left", "top_right", "bottom_left", "bottom_right", "center")
PIXELS = ("checkerboard", "white", "black")


@settings
class Trigger:
    """A square patch stamped over an image, the same for all images.

    Args:
        size: side in pixels.
        place: ``"top_left"``, ``"top_right"``, ``"bottom_left"``, ``"bottom_right"`` or ``"center"``.
        pixels: ``"checkerboard"`` (single pixels, the first one white), ``"white"``, ``"black"``, or grey levels in
            [0, 1] written out as rows, ``size`` by ``size``.
        margin: pixels between the patch and the borders of the image.

    Raises:
        InputError: an unknown place or pattern, levels outside [0, 1] or of another size; when called, an image that
            is smaller than patch and margin.

    >>> Trigger(size=2, place="top_left")(torch.full((1, 1, 3, 3), 0.5))[0, 0]
    tensor([[1.0000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.5000],
            [0.5000, 0.5000, 0.5000]])
    """

    size: int = 4
    place: Place = "bottom_right"
    pixels: str | Cells = "checkerboard"
    margin: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.margin < 0:
            raise InputError(f"a trigger has at least 1 pixel and no negative margin, got {self!r}")
        if self.place not in PLACES:
            raise InputError(f"there is no place {self.place!r}; {did_you_mean(self.place, PLACES)}")
        if isinstance(self.pixels, str):
            if self.pixels not in PIXELS:
                raise InputError(f"there is no pattern {self.pixels!r}; {did_you_mean(self.pixels, PIXELS)}")
            return
        cells = torch.as_tensor(self.pixels, dtype=torch.float32)
        if cells.shape != (self.size, self.size) or not bool(((cells >= 0) & (cells <= 1)).all()):
            raise InputError(f"the pixels of a trigger are {self.size}x{self.size} grey levels in [0, 1]")
        object.__setattr__(self, "pixels", tuple(tuple(row) for row in cells.tolist()))

    def __call__(self, images: Images) -> Images:
        """A copy of the images with the patch."""
        rows, cols = images.shape[-2:]
        if self.size + self.margin > min(rows, cols):
            raise InputError(
                f"a trigger of {self.size} pixels with a margin of {self.margin} does not fit images of {rows}x{cols}"
            )
        stamped = images.clone()
        top, left = (
            self._begin(side, low) for side, low in ((rows, "top" in self.place), (cols, "left" in self.place))
        )
        stamped[..., top : top + self.size, left : left + self.size] = self.patch().to(images)
        return stamped

    def patch(self) -> Float[Tensor, "size size"]:
        """The grey levels."""
        if not isinstance(self.pixels, str):
            return torch.tensor(self.pixels)
        if self.pixels == "checkerboard":
            line = torch.arange(self.size)
            return 1.0 - (line[:, None] + line) % 2
        return torch.full((self.size, self.size), float(self.pixels == "white"))

    def _begin(self, side: int, low: bool) -> int:
        if self.place == "center":
            return (side - self.size) // 2
        return self.margin if low else side - self.size - self.margin
