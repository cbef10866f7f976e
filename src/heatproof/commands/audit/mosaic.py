"""Mosaics of the audited photos: does the map of a class lie where the photo of that class is?

Nobody has to say where the objects are: the mosaic is made here. It is the one check that sees a swap of two classes,
which photos of one class do not show.
"""

from itertools import combinations, product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.data.mosaics import arranged, joined, shown_classes
from heatproof.explainers.together import LayerExplainer, explain_together
from heatproof.heatmaps import resize
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.types import Explainer, Images, Targets

PER_PHOTO = 2
"""Mosaics, each a forward pass."""
PHOTOS = 200
"""At most so many photos are put into mosaics."""
PRIOR = 4
"""A pair of classes that was seen so often counts half as itself, half as all pairs."""
AT_ONCE = 32


class Mosaics(NamedTuple):
    """What the maps of the classes in each mosaic show.

    Attributes:
        tiles: which photo lies in each quarter, row by row.
        classes: those that are explained.
        shares: of the positive mass of class i's map, how much lies in the quarters of class j; NaN for empty maps.
        quarters: how many quarters belong to each class.
        maps: the maps.
    """

    tiles: Int[Tensor, "mosaics 4"]
    classes: Int[Tensor, "mosaics classes"]
    shares: Float[Tensor, "mosaics classes classes"]
    quarters: Int[Tensor, "mosaics"]
    maps: Float[Tensor, "mosaics classes rows cols"]


def spread(count: int, at_most: int = PHOTOS) -> list[int]:
    """Places of ``at_most`` of ``count`` photos, spread evenly from the first to the last; all where there are fewer.

    Photos often come class by class, so that the first ones are of one class.

    >>> spread(10, 4), spread(3, 4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= at_most:
        return list(range(count))
    return [place * (count - 1) // (at_most - 1) for place in range(at_most)]


def look_at_mosaics(
    model: Classifier,
    explainer: Explainer,
    tiles: Images,
    predicted: Targets,
    size: tuple[int, int],
    hardware: Hardware,
    seed: int = 0,
) -> Mosaics | None:
    """Explain the classes of mosaics of the photos; ``None`` where no two classes have enough of them.

    Explainers that need passes of their own for every map explain two classes of half as many mosaics.
    """
    if len(shown_classes(predicted)) < 2:
        return None
    cheap = isinstance(explainer, LayerExplainer)
    places, classes = arranged(predicted, len(tiles) * PER_PHOTO // (1 if cheap else 2), seed)
    owners = predicted[places]
    classes = classes if cheap else classes[:, :2]
    shares, maps = [], []
    for some in torch.arange(len(places)).split(AT_ONCE):
        images = hardware.bring(joined(tiles[places[some]], size))
        with hardware.autocast():
            grid = explain_together(model, images, [explainer], hardware.bring(classes[some]))
        found = grid.heatmaps[0].detach().float().cpu()
        maps.append(found)
        shares.append(_shares(found, owners[some], classes[some], size))
    quarters = (owners[:, :, None] == classes[:, None]).sum((1, 2)) // classes.shape[1]
    return Mosaics(places, classes, torch.cat(shares), quarters, torch.cat(maps))


def _shares(maps: Tensor, owners: Tensor, classes: Tensor, size: tuple[int, int]) -> Tensor:
    fine = torch.stack([resize(own, size) for own in maps]).relu()
    rows, cols = ((side + 1) // 2 for side in size)
    halves = [(slice(side), slice(side, None)) for side in (rows, cols)]
    parts = [fine[..., above, left] for above, left in product(*halves)]
    mass = torch.stack([part.sum((2, 3)) for part in parts], 2)
    mass = mass / mass.sum(2, keepdim=True)
    belongs = (owners[:, None] == classes[:, :, None]).to(mass)
    return torch.einsum("niq,njq->nij", mass, belongs)


def pointing(shares: Float[Tensor, "mosaics classes classes"], quarters: Int[Tensor, "mosaics"]) -> list[float]:
    """Of each mosaic, how much of the maps' mass lies in their own photos beyond chance, mean over the classes.

    (share - q) / (1 - q), with q the share of the mosaic that belongs to the class.

    **Source** Boehle, Fritz and Schiele 2021 (the grid pointing game; chance is taken off here). **Range** [-1, 1], 1:
    all of it, 0: as much as anywhere; NaN where all maps are empty.

    >>> pointing(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]), torch.tensor([2]))
    [0.5]
    """
    chance = quarters[:, None].double() / 4
    own = shares.diagonal(dim1=1, dim2=2).double()
    return ((own - chance) / (1 - chance)).nanmean(1).tolist()


def exchanged(
    shares: Float[Tensor, "mosaics classes classes"], classes: Int[Tensor, "mosaics classes"]
) -> tuple[list[float], tuple[int, int]] | None:
    """The two classes whose maps lie most in each other's photos: the values whose mean says how much, and the pair.

    Of a mosaic with the classes a and b: half of (a's map in b's photo - in its own) + (b's map in a's - in its own).
    Every pair is drawn to the mean of all pairs as if that had been seen :data:`PRIOR` times, so that among many
    classes one mosaic does not decide [ours]. **Range** [-1, 1], above 0: the other photo has more. ``None`` where all
    maps are empty.

    >>> swap = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).repeat(20, 1, 1)
    >>> values, pair = exchanged(swap, torch.tensor([[3, 5]]).repeat(20, 1))
    >>> values[0], pair
    (1.0, (3, 5))
    """
    pairs: dict[tuple[int, int], list[float]] = {}
    own = shares.diagonal(dim1=1, dim2=2)
    away = (shares + shares.mT - own[:, :, None] - own[:, None]).double() / 2
    for i, j in combinations(range(classes.shape[1]), 2):
        for a, b, value in zip(classes[:, i].tolist(), classes[:, j].tolist(), away[:, i, j].tolist(), strict=True):
            if value == value:
                pairs.setdefault((min(a, b), max(a, b)), []).append(value)
    if not pairs:
        return None
    everything = [value for own in pairs.values() for value in own]
    middle = sum(everything) / len(everything)
    drawn = {
        pair: [(len(own) * value + PRIOR * middle) / (len(own) + PRIOR) for value in own] for pair, own in pairs.items()
    }
    worst = max(drawn, key=lambda pair: sum(drawn[pair]) / len(drawn[pair]))
    return drawn[worst], worst
