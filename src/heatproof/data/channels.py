"""From the channels of a photo to those that a network takes, and from its values to [0, 1]."""

import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from heatproof.errors import InputError
from heatproof.preprocessing import Preprocessing

Pixels = (
    UInt8[Tensor, "channels height width"]
    | UInt16[Tensor, "channels height width"]
    | Float[Tensor, "channels height width"]
)
"""A photo at its own size: 0..255, 0..65535, or floating point, of which the file does not say what is white."""

LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 65536ths: ITU-R BT.601's 0.299, 0.587 and 0.114, as Pillow rounds them."""
DARK = 4095
"""Where a 16-bit photo holds no value beyond, it was most likely taken in 12 bits or fewer."""


def as_channels(photo: Pixels, wanted: Preprocessing) -> Tensor:
    """The photo in the channels that the network takes.

    Grey becomes RGB of three equal channels, RGB becomes grey by its luma; with ``wanted.alpha`` RGB is fully opaque.

    Raises:
        InputError: any other change of channels; what they would mean is not known.

    >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1)
    >>> as_channels(red, Preprocessing(channels=1)).flatten().tolist()
    [76]
    """
    have, take = len(photo), wanted.channels
    if have == take:
        return photo
    if have == 1 and take == 3:
        return photo.expand(3, -1, -1)
    if have == 3 and take == 1:
        return luma(photo)
    if wanted.alpha and have in (1, 3):
        white = 1.0 if photo.is_floating_point() else torch.iinfo(photo.dtype).max
        opaque = torch.full_like(photo[:1], white)
        return torch.cat([photo.expand(3, -1, -1), opaque])
    way = "; RGB with transparency is read where channels=4 is given (--channels 4)" if take == 4 and have == 3 else ""
    raise InputError(f"it has {have} channel{'s' * (have > 1)} and the network takes {take}{way}")


def luma(photo: Pixels) -> Tensor:
    """Grey from RGB, as Pillow's mode ``L``."""
    if photo.is_floating_point():
        weights = torch.tensor(LUMA, dtype=photo.dtype).view(3, 1, 1) / 65536
        return (photo * weights).sum(0, keepdim=True)
    weights = torch.tensor(LUMA).view(3, 1, 1)
    return ((photo.long() * weights).sum(0, keepdim=True).add_(32768) >> 16).to(photo.dtype)


def in_range(photo: Pixels, given: tuple[float, float] | None) -> UInt8[Tensor, "*any"] | Float[Tensor, "*any"]:
    """A photo of more than 8 bits in [0, 1] of float32; one of 8 bits as it is.

    Raises:
        InputError: floating-point values outside [0, 1], of which nothing says which is black and which is white.

    >>> in_range(torch.tensor([[[0, 2047.5, 9999]]]), (0, 4095)).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    if photo.dtype == torch.uint8:
        return photo
    low, high = given or ((0.0, 65535.0) if photo.dtype == torch.uint16 else (0.0, 1.0))
    values = photo.to(torch.float32)
    if given is None and photo.dtype != torch.uint16:
        least, most = values.aminmax()
        if not (least >= 0 and most <= 1):
            raise InputError(
                f"its values lie outside 0..1, in {least:.6g}..{most:.6g}, so that black and white are unknown; give "
                f"them as range=(black, white) (--range {least:.6g}:{most:.6g}), or save it in 8 or 16 bits"
            )
    return values.sub_(low).div_(high - low).clamp_(0, 1)


def dark(photo: Pixels, given: tuple[float, float] | None) -> str:
    """A remark about a 16-bit photo that the network would see nearly black; empty for every other."""
    if given is not None or photo.dtype != torch.uint16 or not photo.numel():
        return ""
    least, most = (int(value) for value in photo.to(torch.int32).aminmax())
    if most > DARK:
        return ""
    return (
        f"it has 16 bits and values of {least}..{most} only: within 0..65535 the network sees it nearly black. Give "
        f"the values of black and white: range=(0, {_bits(most)}), or --range 0:{_bits(most)}"
    )


def _bits(most: int) -> int:
    """The largest number of as many bits, of at least 8."""
    return (1 << max(8, most.bit_length())) - 1
