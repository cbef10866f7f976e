"""Images that show two classes at once, for the active fooling."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from heatproof.data.classes import class_indices, unknown_class
from heatproof.data.listing import UNLABELLED
from heatproof.data.photos import Fit, as_preprocessing, fitted, reading, scaled
from heatproof.data.sources import Photo, Source
from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing
from heatproof.types import settings


@settings
class TwoClass:
    """``count`` images of 2x2 blocks: two photos of one class, two of another, in shuffled places.

    Photo ``i`` is made on the fly and is a pure function of (source, seed, i). It can be read like a source, by
    :func:`~heatproof.data.batches.batches` and by :func:`~heatproof.data.batches.training_batches`, at the same
    ``size``. Its label is -1: it shows two classes.

    Images to train on and images to judge by share photos unless they come from two sources.

    **Source** Heo, Joo, Moon 2019, section 4.1 (the active fooling's data).

    Args:
        source: Labelled photos.
        first: A class, by number or by name.
        second: Another class.
        size: How photos come to the model, or the side of the images in pixels; each block takes half of it.
        count: Number of images.
        seed: Not negative; drives the choice of photos and their places.
        how: How a photo comes to a block of a mere size, see :func:`~heatproof.data.photos.fit`.

    Raises:
        InputError: A class is unknown, or has fewer than two photos; when an image is made, fewer than two that can be
            read.
    """

    source: Source
    first: int | str
    second: int | str
    size: int | Preprocessing
    count: int
    seed: int = 0
    how: Fit = "resize"

    def __post_init__(self) -> None:
        least = self.size if isinstance(self.size, int) else min(self.size.shape)
        if least < 2 or self.count < 1 or self.seed < 0:
            raise InputError(f"expected size >= 2, count >= 1 and seed >= 0, got {least}, {self.count} and {self.seed}")
        for wanted, places in zip((self.first, self.second), self._photos, strict=True):
            if len(places) < 2:
                raise InputError(f"{self.source.name} has {len(places)} photos of {wanted!r}: expected at least 2")

    @cached_property
    def _photos(self) -> list[list[int]]:
        """Where the two classes lie in the source."""
        numbers = [_class(self.source, wanted) for wanted in (self.first, self.second)]
        if numbers[0] == numbers[1]:
            raise InputError(f"expected two classes, got {self.first!r} and {self.second!r}")
        return [[place for place, label in enumerate(self.source.labels) if label == number] for number in numbers]

    @property
    def ids(self) -> list[str]:
        """``pair-00000`` and so on."""
        return self._ids

    @cached_property
    def _ids(self) -> list[str]:
        return [f"pair-{place:05}" for place in range(self.count)]

    @property
    def labels(self) -> list[int]:
        """-1 throughout."""
        return [UNLABELLED] * self.count

    @property
    def skipped(self) -> list[dict[str, str]]:
        """What the source left out."""
        return self.source.skipped

    def skip(self, image: str, reason: str) -> None:
        """Note in the source that a photo was left out."""
        self.source.skip(image, reason)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Photo:
        draw = np.random.default_rng([self.seed, range(self.count)[position]])
        whole = as_preprocessing(self.size, self.how)
        half = whole.halved()  # an odd size loses the last row and column
        blocks = [
            block
            for wanted, places in zip((self.first, self.second), self._photos, strict=True)
            for block in self._two(wanted, draw.permutation(places).tolist(), half)
        ]
        if any(block.is_floating_point() for block in blocks):
            blocks = [scaled(block) for block in blocks]
        a, b, c, d = (blocks[place] for place in draw.permutation(4))
        image = torch.cat([torch.cat([a, b], dim=2), torch.cat([c, d], dim=2)], dim=1)
        rows, cols = whole.shape
        return Photo(self.ids[position], image[:, :rows, :cols], UNLABELLED, fitted=True)

    def _two(self, wanted: int | str, places: Sequence[int], half: Preprocessing) -> list[Tensor]:
        found: list[Tensor] = []
        for place in places:
            try:
                # fitted at once: the photos themselves may be large
                with reading():
                    found.append(fitted(self.source[place].image, half))
            except InputError as error:
                self.skip(self.source.ids[place], str(error))
            if len(found) == 2:
                return found
        raise InputError(f"fewer than two photos of class {wanted!r} can be read")


def two_class(
    source: object, classes: tuple[int, int], size: int | Preprocessing, count: int, seed: int = 0
) -> TwoClass:
    """``count`` images that show both classes, from the labelled photos of a source.

    Raises:
        InputError: the data are no opened photos, or have too few of a class.
    """
    if not isinstance(source, Source):
        raise InputError(
            "a swap of two classes makes its images from opened photos (open_data); with tensors give fool_data and "
            "fool_held_out, images that show both classes"
        )
    return TwoClass(source, *classes, size=size, count=count, seed=seed)


def _class(source: Source, wanted: int | str) -> int:
    if isinstance(wanted, int):
        return wanted
    names = source.classes
    if names is None:
        raise InputError(f"the classes of {source.name} have no names: give a number, got {wanted!r}")
    found = class_indices([wanted], names)[0]
    if wanted not in found:
        raise InputError(unknown_class(wanted, names))
    return found[wanted]
