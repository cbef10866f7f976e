"""What happens to photos without an attacker: noise, blur, weather, compression (ImageNet-C)."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.types import Images, Objective, settings

KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The fifteen of ImageNet-C."""
OWN_SEED = ("impulse_noise", "glass_blur")
SEVERITIES = (1, 2, 3, 4, 5)
LEAST = 32
"""Pixels of a side that the library asks for."""


@settings
class Corruption:
    """One of ImageNet-C's corruptions, at one of its five severities; nobody aims, and the objective is not asked.

    An attack of :func:`~heatproof.commands.shift.run.run_shift` like the others, at severities in place of epsilons:
    which heatmaps hold still under fog, blur and JPEG? They are computed by the package ``imagecorruptions`` on pixels
    of 8 bits, each image with the same seed, so that it does not depend on its neighbours.

    **Source** Hendrycks and Dietterich 2019. **Range** images in [0, 1]. **Differs** the severities were made for
    photos of 224 pixels; on smaller ones the same numbers look stronger.

    Args:
        kind: one of :data:`KINDS`.
        severity: 1 to 5; ``None``: all five, one after the other.
        seed: of its random numbers.

    Raises:
        SpecError: there is no such corruption, or the package is not installed.
        InputError: another severity; images that are not RGB or grey, or smaller than 32 pixels.
    """

    kind: str = "fog"
    severity: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(f"there is no corruption {self.kind!r}; {did_you_mean(self.kind, KINDS)}")
        if self.severity is not None and self.severity not in SEVERITIES:
            raise InputError(f"a severity is one of {', '.join(map(str, SEVERITIES))}, got {self.severity!r}")

    @property
    def levels(self) -> tuple[float, ...]:
        """The severities that are tried."""
        return SEVERITIES if self.severity is None else (self.severity,)

    def at(self, level: float) -> "Corruption":
        """The same at one severity."""
        return Corruption(self.kind, int(level), self.seed)

    def __call__(self, objective: Objective | None, images: Images) -> Images:
        if self.severity is None:
            raise InputError(
                f"which severity? corruption({self.kind!r}, severity=3), or .at(level) for each of .levels"
            )
        channels, rows, cols = images.shape[1:]
        if channels not in (1, 3) or min(rows, cols) < LEAST:
            raise InputError(
                f"corruptions are made of grey and RGB photos of at least {LEAST} pixels a side, got images of "
                f"{channels} channels and {rows} x {cols} pixels"
            )
        corrupt = _library()
        grey_levels = (images.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1)
        made = [self._one(corrupt, image) for image in grey_levels.numpy()]
        found = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).to(images) / 255
        return found.mean(1, keepdim=True) if channels == 1 else found

    def _one(self, corrupt: Callable[..., Any], image: Any) -> Any:
        # most draw from numpy's global generator, which is given back as it was, and two from one of their own
        own = {"seed": self.seed} if self.kind in OWN_SEED else {}
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(self.seed)  # noqa: NPY002
            return corrupt(image, severity=self.severity, corruption_name=self.kind, **own)
        finally:
            np.random.set_state(state)  # noqa: NPY002


def installed() -> bool:
    """Whether the package is there that makes them."""
    return importlib.util.find_spec("imagecorruptions") is not None


def _library() -> Callable[..., Any]:
    try:
        return importlib.import_module("imagecorruptions").corrupt
    except ImportError as error:
        raise SpecError(
            "corruptions need a package that is not installed; pip install heatproof[corruptions]"
        ) from error
