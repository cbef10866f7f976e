"""Scenes made from handwritten digits: a coloured digit, or two, somewhere in clutter.

A photo stand-in that needs no download, and whose answer is known: the only thing that says the class is the digit, so
a heatmap that is right lies in the digit's box. Everything else is drawn to be ignored: a textured background, pieces
cut from other digits and short strokes, in the same colours and with the same pen as the digit.

The digits (``digits.safetensors``) are the 1,797 8x8 images of the *Optical Recognition of Handwritten Digits* data
set, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0, as
shipped by scikit-learn (``load_digits``); one in four is set aside for test scenes. ``scripts/train_demo.py`` packs
them.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import Images

SIDE = 64
"""Height and width of a scene, in pixels."""
DIGITS = Path(__file__).with_name("digits.safetensors")
"""``images`` uint8 [1797, 8, 8] in 0..16 (ink), ``labels`` uint8 [1797], ``test`` bool [1797]."""

GLYPH = 32  # a digit is enlarged once to this side, smooth enough to be cut sharp at any size
BLOCK = 64  # scenes drawn together; always a whole block, so that a scene does not depend on how many were asked for
PIECES, STROKES = 4, 4  # drawn per scene; some pieces are blank paper
MARGIN, GAP = 3, 4  # pixels between a digit's frame and the border, between two frames: slanted corners stick out
PATCH, SMALL_PATCH = 40, 20  # pixels that hold any digit, any piece or stroke; drawing whole scenes takes 8x the time
OUTSIDE = 12  # pixels by which a patch may reach over the border
CONTRAST = 0.3  # least difference of luminance between a stroke and the background
LUMA = (0.299, 0.587, 0.114)

# how many random numbers each part of a scene takes
PARTS = {
    "layout": 7,
    "base": 4,
    "wash": 3 * 4 * 4,
    "grain": 16 * 16,
    "ripples": 3,
    "digits": 2 * 8,
    "pieces": PIECES * (10 + 16),
    "strokes": STROKES * (8 + 16),
    "noise": 1 + 3 * SIDE * SIDE,
}


class Scenes(NamedTuple):
    """Images with known answers.

    Attributes:
        images: Pixels in [0, 1], whole multiples of 1/255: a PNG holds them exactly.
        labels: The digit, ``[N]``; in two-digit scenes ``[N, 2]``, the left or upper one first.
        boxes: ``[N, digits, 4]``, ``x1, y1, x2, y2`` in pixels around each digit's ink; ``x2, y2`` are not inside.
    """

    images: Images
    labels: Int[Tensor, "batch *digits"]
    boxes: Int[Tensor, "batch digits 4"]


def scenes(count: int, seed: int, split: str = "test", digits: int = 1) -> Scenes:
    """Draw ``count`` scenes of 64x64 pixels; a pure function of its arguments.

    Scene ``i`` is the same however many are asked for, classes are equally likely, and the two digits of a scene are
    of different classes and do not overlap. About 2,000 scenes a second on two cores; multiples of 64 waste none.

    Args:
        count: Number of scenes.
        seed: Other seeds give other scenes; one per training step makes endless training data.
        split: ``train`` or ``test``: which digits are used. No digit is in both.
        digits: 1 or 2.

    Raises:
        InputError: For a negative count, an unknown split, or another number of digits.

    >>> images, labels, boxes = scenes(3, seed=0)
    >>> images.shape, labels.shape, boxes.shape
    (torch.Size([3, 3, 64, 64]), torch.Size([3]), torch.Size([3, 1, 4]))
    """
    if count < 0:
        raise InputError(f"count must be 0 or more, got {count}")
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r}")
    if digits not in (1, 2):
        raise InputError(f"a scene holds 1 or 2 digits, got digits={digits!r}")
    # the two splits draw from different streams, so that they share no background either
    generator = torch.Generator().manual_seed(2 * seed + (split == "test"))
    blocks = []
    for _ in range(0, max(count, 1), BLOCK):
        numbers = torch.rand((BLOCK, sum(PARTS.values())), generator=generator)
        parts = dict(zip(PARTS, numbers.split(list(PARTS.values()), dim=1), strict=True))
        blocks.append(_draw(parts, split, digits))
    images, labels, boxes = (torch.cat(kind)[:count] for kind in zip(*blocks, strict=True))
    return Scenes(images, labels if digits == 2 else labels[:, 0], boxes)


@cache
def _glyphs(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """The split's digits sorted by class, enlarged to 32x32 with ink in [0, 1]; each class's start and size."""
    packed = load_file(DIGITS)
    chosen = packed["test"] == (split == "test")
    labels, order = packed["labels"][chosen].long().sort(stable=True)
    small = packed["images"][chosen][order].float()[:, None] / 16
    # the border lets strokes that touch the 8x8 frame end in paper; a glyph therefore spans 10/8 of the digit
    large = F.interpolate(F.pad(small, (1, 1, 1, 1)), size=(GLYPH, GLYPH), mode="bicubic", align_corners=False)
    sizes = labels.bincount(minlength=10)
    return large[:, 0].clamp(0, 1), sizes.cumsum(0) - sizes, sizes


class _Marks(NamedTuple):
    """Things drawn with the pen, each on its own patch of the scene."""

    corners: Int[Tensor, "batch items 2"]
    """x and y of the patch's first pixel; may lie outside the scene."""
    ink: Float[Tensor, "batch items patch patch"]
    """How much of each pixel is covered, in [0, 1]."""
    colours: Float[Tensor, "batch items 3"]


def _draw(parts: dict[str, Tensor], split: str, digits: int) -> tuple[Tensor, Tensor, Tensor]:
    """One block of scenes from its random numbers: images, labels ``[N, digits]``, boxes."""
    ground, luma = _ground(parts["base"], parts["wash"], parts["grain"], parts["ripples"])
    centres, sides = _layout(parts["layout"], digits)
    labels, figures = _digits(parts["digits"], luma, centres, sides, split)
    canvas = F.pad(ground, (OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE))
    _paste(canvas, _strokes(parts["strokes"], luma, centres, sides))
    _paste(canvas, _pieces(parts["pieces"], luma, centres, sides, split))
    _paste(canvas, figures)
    images = canvas[:, :, OUTSIDE:-OUTSIDE, OUTSIDE:-OUTSIDE]
    strength, noise = parts["noise"].split([1, 3 * SIDE * SIDE], dim=1)
    images = images + (0.08 + 0.16 * strength)[:, :, None, None] * (noise.view(-1, 3, SIDE, SIDE) - 0.5)
    return images.clamp_(0, 1).mul_(255).round_().div_(255), labels, _boxes(figures)


def _ground(base: Tensor, wash: Tensor, grain: Tensor, ripples: Tensor) -> tuple[Tensor, Tensor]:
    """Backgrounds, dark or light, with a wash of colour, grain and ripples; and their luminance ``[N]``."""
    choice, colour = base[:, 0], base[:, 1:]
    luma = torch.where(choice < 0.6, 0.12 + 0.26 * choice / 0.6, 0.64 + 0.22 * (choice - 0.6) / 0.4)
    colour = _with_luma(0.25 + 0.5 * colour, luma)
    soft = F.interpolate(wash.view(-1, 3, 4, 4) - 0.5, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    rough = F.interpolate(grain.view(-1, 1, 16, 16) - 0.5, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    turn, pitch, strength = ripples[:, :, None, None].unbind(1)
    angle, period = math.pi * turn, 5 + 12 * pitch
    line = torch.arange(SIDE)
    phase = (line * angle.cos() + line[:, None] * angle.sin()) * (2 * math.pi / period)
    rough = 0.14 * rough + (0.05 * strength * phase.sin())[:, None]
    return colour[:, :, None, None] + 0.22 * soft + rough, luma


def _layout(numbers: Tensor, digits: int) -> tuple[Tensor, Tensor]:
    """Where the digits' frames lie: centres ``[N, digits, 2]`` (x, y) and sides ``[N, digits]``, in pixels."""
    if digits == 1:
        sides = 22 + 7 * numbers[:, :1]
        half = sides[:, :, None] / 2 + MARGIN
        return half + (SIDE - 2 * half) * numbers[:, None, 2:4], sides
    sides = 20 + 6 * numbers[:, :2]
    # along one axis the free room is shared out before, between and after the frames; across it each lies anywhere
    room = SIDE - 2 * MARGIN - GAP - sides.sum(dim=1, keepdim=True)
    before = sides.cumsum(dim=1) - sides + torch.tensor([0, GAP])
    along = MARGIN + before + sides / 2 + room * numbers[:, 2:4].sort(dim=1).values
    across = MARGIN + sides / 2 + (SIDE - 2 * MARGIN - sides) * numbers[:, 4:6]
    upright = numbers[:, 6:] < 0.5
    return torch.stack([along.where(~upright, across), along.where(upright, across)], dim=2), sides


def _digits(numbers: Tensor, luma: Tensor, centres: Tensor, sides: Tensor, split: str) -> tuple[Tensor, _Marks]:
    """Labels ``[N, digits]`` and the digits themselves, a little turned and slanted."""
    count = centres.shape[1]
    numbers = numbers.unflatten(1, (2, 8))[:, :count]
    kind, which, turn, slant, *colour = numbers.unbind(2)
    labels = (10 * kind).long()
    if count == 2:  # another class: 1 to 9 steps on
        labels[:, 1] = (labels[:, 0] + 1 + (9 * kind[:, 1]).long()) % 10
    corners, u, v = _frame(centres, sides, math.radians(12) * (2 * turn - 1), PATCH)
    ink = _ink(_pick(labels, which, split), u + 0.3 * (slant[:, :, None, None] - 0.5) * v, v)
    return labels, _Marks(corners, ink, _colour(colour, luma))


def _pieces(numbers: Tensor, luma: Tensor, centres: Tensor, sides: Tensor, split: str) -> _Marks:
    """Round pieces cut from other digits, turned any way: the right pen, but no digit."""
    (kind, which, size, turn, bearing, radius, *colour), tries = _share(numbers, PIECES)
    corners, u, v = _frame(_aside(tries, centres, sides), 20 + 8 * size, 2 * math.pi * turn, SMALL_PATCH)
    distance = (u * u + v * v).sqrt()
    disc = ((0.3 + 0.15 * radius[:, :, None, None] - distance) * 10 + 0.5).clamp(0, 1)
    bearing = 2 * math.pi * bearing[:, :, None, None]
    # cut around a point off the digit's middle, where the ink is
    ink = _ink(_pick((10 * kind).long(), which, split), u + 0.5 * bearing.cos(), v + 0.5 * bearing.sin())
    return _Marks(corners, ink * disc, _colour(colour, luma))


def _strokes(numbers: Tensor, luma: Tensor, centres: Tensor, sides: Tensor) -> _Marks:
    """Short bent strokes, 6 to 12 pixels long and about 2 wide."""
    (length, bend, width, turn, *colour), tries = _share(numbers, STROKES)
    side = torch.full_like(turn, 2)  # u and v in pixels
    corners, u, v = _frame(_aside(tries, centres, sides), side, 2 * math.pi * turn, SMALL_PATCH)
    v = v + 0.12 * (bend[:, :, None, None] - 0.5) * u * u
    beyond = (u.abs() - 3 - 3 * length[:, :, None, None]).clamp(min=0)
    distance = (beyond * beyond + v * v).sqrt()
    ink = (1.3 + 0.7 * width[:, :, None, None] - distance).clamp(0, 1)
    return _Marks(corners, ink, _colour(colour, luma))


def _share(numbers: Tensor, items: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Each item's own numbers, one ``[N, items]`` tensor per meaning, and its eight tries at a place."""
    numbers = numbers.unflatten(1, (items, -1))
    return numbers[:, :, :-16].unbind(2), numbers[:, :, -16:].unflatten(2, (8, 2))


def _aside(tries: Tensor, centres: Tensor, sides: Tensor) -> Tensor:
    """Places ``[N, items, 2]`` beside the digits: the first try well clear of them, else the farthest.

    A piece on the digit could make it another digit; one that touches it is fair.
    """
    places = 3 + (SIDE - 6) * tries
    away = (places[:, :, :, None] - centres[:, None, None]).abs().amax(dim=4) - sides[:, None, None] / 2
    best = away.amin(dim=3).clamp(max=7).argmax(dim=2)
    return places.gather(2, best[:, :, None, None].expand(-1, -1, 1, 2))[:, :, 0]


def _frame(centres: Tensor, sides: Tensor, angles: Tensor, patch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The patch's corner, and its pixels' places ``u, v`` in the turned frame, whose edges are at -1 and 1."""
    corners = centres.long() - patch // 2
    offset = (corners - centres)[:, :, :, None] + torch.arange(patch) + 0.5
    x, y = offset[:, :, 0, None, :], offset[:, :, 1, :, None]
    scale = 2 / sides
    cos, sin = (angles.cos() * scale)[:, :, None, None], (angles.sin() * scale)[:, :, None, None]
    return corners, x * cos + y * sin, y * cos - x * sin


def _pick(labels: Tensor, numbers: Tensor, split: str) -> Tensor:
    """A digit of each class, ``[N, items, 32, 32]``."""
    glyphs, start, size = _glyphs(split)
    return glyphs[start[labels] + (numbers * size[labels]).long()]


def _ink(glyphs: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The glyphs drawn in their frames with a sharp pen, ``[N, items, patch, patch]`` in [0, 1]."""
    places = torch.stack([u, v], dim=-1).flatten(0, 1) * 0.8  # the glyph's border is not part of the frame
    grey = F.grid_sample(glyphs.flatten(0, 1)[:, None], places, padding_mode="border", align_corners=False)
    ink = ((grey.view_as(u) - 0.33) / 0.3).clamp(0, 1)
    return ink * ink * (3 - 2 * ink)


def _paste(canvas: Tensor, marks: _Marks) -> None:
    """Draw the marks on the canvas, which reaches ``OUTSIDE`` pixels over the scene's border."""
    flat, width = canvas.flatten(2), canvas.shape[3]
    step = torch.arange(marks.ink.shape[2])
    for corner, ink, colour in zip(*(part.unbind(1) for part in marks), strict=True):
        first = (corner[:, 1] + OUTSIDE) * width + corner[:, 0] + OUTSIDE
        places = (first[:, None, None] + step[:, None] * width + step).flatten(1)[:, None].expand(-1, 3, -1)
        under, over = flat.gather(2, places), colour[:, :, None].expand(places.shape)
        flat.scatter_(2, places, torch.lerp(under, over, ink.flatten(1)[:, None]))


def _boxes(marks: _Marks) -> Tensor:
    """The tight boxes ``x1, y1, x2, y2`` of the marks' ink, in the scene's pixels."""
    drawn = marks.ink > 0.5
    lines = torch.stack([drawn.any(dim=2), drawn.any(dim=3)], dim=2).int()  # columns, rows
    first, after = lines.argmax(dim=3), drawn.shape[3] - lines.flip(3).argmax(dim=3)
    return torch.cat([marks.corners + first, marks.corners + after], dim=2)


def _colour(numbers: Sequence[Tensor], luma: Tensor) -> Tensor:
    """Bright colours ``[N, items, 3]`` that stand out from backgrounds of luminance ``luma`` ``[N]``."""
    *hue, vivid = numbers
    colour, ground = torch.stack(hue, dim=-1), luma[:, None]
    low, high = colour.amin(dim=-1, keepdim=True), colour.amax(dim=-1, keepdim=True)
    colour = 0.08 + 0.92 * (colour - low) / (high - low + 1e-6)
    room = torch.where(ground < 0.5, 0.97 - ground, ground - 0.03) - CONTRAST
    step = CONTRAST + 0.7 * room * vivid
    return _with_luma(colour, torch.where(ground < 0.5, ground + step, ground - step))


def _with_luma(colour: Tensor, luma: Tensor) -> Tensor:
    """``colour`` (last dimension RGB) mixed with white or black until its luminance is ``luma``."""
    now, luma = (colour * torch.tensor(LUMA)).sum(dim=-1, keepdim=True), luma[..., None]
    lighter = colour + (1 - colour) * ((luma - now) / (1 - now))
    return torch.where(now < luma, lighter, colour * (luma / now))
