"""The data name ``demo``: photos for which no file and no download is needed."""

from jaxtyping import UInt8
from torch import Tensor

from heatproof.data.scenes import scenes


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
        name = "-".join(["digit" if digits == 1 else "digits", *map(str, label), f"{number:04d}"])
        named.append((name, (image * 255).round().byte(), label[0]))
    return named
