"""The data name ``demo``: photos for which no file and no download is needed."""

from jaxtyping import UInt8
from torch import Tensor

from heatproof.data.boxes import Boxes
from heatproof.data.scenes import SIDE, scenes


def photos(
    split: str = "test", count: int = 40, digits: int = 1, seed: int = 0
) -> list[tuple[str, UInt8[Tensor, "3 64 64"], int]]:
    """Scenes as a folder of photos would give them: ``(id, pixels, label)``; a pure function of its arguments.

    Args:
        split: ``test`` holds digits that the demo network was not trained on, ``train`` those that it was.
        count: Number of photos; each is the same however many are asked for.
        digits: 1, or 2 for scenes with two different digits, whose label is the left or upper one (the id names both,
            in that order).
        seed: Other seeds give other photos.

    Raises:
        InputError: For a negative count, an unknown split, or another number of digits.

    >>> name, pixels, label = photos(count=2)[1]
    >>> name, pixels.shape, label
    ('digit-1-0001', torch.Size([3, 64, 64]), 1)
    >>> photos(count=1, digits=2)[0][0]
    'digits-7-9-0000'
    """
    images, labels, _ = scenes(count, seed, split, digits)
    named = []
    for number, (image, label) in enumerate(zip(images, labels.view(count, digits).tolist(), strict=True)):
        named.append((_name(label, number), (image * 255).round().byte(), label[0]))
    return named


def boxes(split: str = "test", count: int = 40, digits: int = 1, seed: int = 0) -> Boxes:
    """Where the digits of :func:`photos` lie, by photo; the same arguments.

    >>> [round(corner, 2) for corner in boxes(count=2)["digit-1-0001"][0]]
    [0.31, 0.5, 0.47, 0.88]
    """
    _, labels, corners = scenes(count, seed, split, digits)
    shares = (corners.float() / SIDE).tolist()
    return {
        _name(label, number): tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in shares[number])
        for number, label in enumerate(labels.view(count, digits).tolist())
    }


def _name(labels: list[int], number: int) -> str:
    return "-".join(["digit" if len(labels) == 1 else "digits", *map(str, labels), f"{number:04d}"])
