"""The cells of the board: what each column measures of one row, from maps that are made once."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from heatproof.attacks.corruption import Corruption
from heatproof.attacks.gradient import PGD
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.patch import Patch
from heatproof.data.mosaics import joined, tile
from heatproof.defences.contrast import Contrast
from heatproof.errors import InputError
from heatproof.heatmaps import resize
from heatproof.metrics.faithfulness import AOPC, Deletion
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.randomisation import blocks_from_the_top, draw_anew
from heatproof.metrics.road import ROAD
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier
from heatproof.models.layers import find_layer
from heatproof.studies.board.columns import KEPT
from heatproof.studies.board.lies import LIES, passes_of
from heatproof.studies.board.unit import Unit, Values
from heatproof.types import PerImage


def noise(unit: Unit, seed: int) -> Values:
    attack = RandomSign(unit.budgets.epsilon, seed=seed)
    return unit.moved(seed, attack(lambda images: images.sum((1, 2, 3)), unit.images))


def fgsm(unit: Unit, seed: int) -> Values:
    epsilon = unit.budgets.epsilon
    return unit.moved(seed, unit.attacked(PGD(epsilon, 1, step_size=epsilon, random_start=False), seed))


def naive(unit: Unit, seed: int) -> Values:
    return unit.moved(seed, unit.naive(seed))


def pgd(unit: Unit, seed: int) -> Values:
    """The worst of the board's attacker and, of a submission, its own; photo by photo."""
    # of an explainer that stands alone the photos are there already
    bare = unit.row.map == unit.row.plain
    attack = PGD(unit.budgets.epsilon, unit.budgets.steps, seed=seed)
    found = naive(unit, seed) if bare else unit.moved(seed, unit.attacked(attack, seed))
    for attack in unit.attacks:
        other = unit.moved(seed, unit.attacked(attack, seed))
        worse = other["value"] < found["value"]
        found = {name: torch.where(worse, other[name], value) for name, value in found.items()}
    return found


def patch(unit: Unit, seed: int) -> Values:
    return unit.moved(seed, unit.attacked(Patch(steps=unit.budgets.steps, step_size=0.25, seed=seed), seed))


def corruption(unit: Unit, seed: int) -> Values:
    found = [
        unit.moved(seed, Corruption(kind, unit.budgets.severity, seed)(None, unit.images))
        for kind in unit.budgets.kinds
    ]
    return {name: torch.stack([one[name] for one in found]).nanmean(0) for name in found[0]}


def fooled(unit: Unit, seed: int) -> Values | None:
    return _lying(unit, seed, unit.lies.through_gradcam(unit.opened, seed))


def fooled_knowing(unit: Unit, seed: int) -> Values | None:
    if not unit.lies.reaches(unit.opened, unit.row.map, unit.clean(seed).heatmaps):
        return None
    return _lying(unit, seed, unit.lies.through(unit.opened, unit.row.map, seed))


def _lying(unit: Unit, seed: int, models: Mapping[str, Classifier]) -> Values | None:
    """Whether each map lies as wanted, mean over the lies."""
    if not models:
        return None
    clean, found = unit.clean(seed), list[PerImage]()
    for lie, model in models.items():
        penalty = LIES[lie]
        maps = unit.explained(unit.explainer(seed), unit.images, clean.targets, model).heatmaps
        found.append(is_fooled(penalty.test_loss(maps, clean.heatmaps), penalty.success).float())
    return {"value": torch.stack(found).mean(0)}


def certified(unit: Unit, seed: int) -> Values | None:
    share = unit.clean(seed).certified
    return None if share is None else {"value": share}


def aopc(unit: Unit, seed: int) -> Values:
    measure = AOPC(region=unit.opened.network.region, steps=unit.budgets.removals, ragged=True, seed=seed)
    return _read(unit, seed, measure)


def deletion(unit: Unit, seed: int) -> Values:
    return _read(unit, seed, Deletion(steps=unit.budgets.removals))


def road(unit: Unit, seed: int) -> Values:
    return _read(unit, seed, ROAD(unit.budgets.fractions, seed=seed))


def _read(unit: Unit, seed: int, measure: Callable[..., PerImage]) -> Values:
    clean = unit.clean(seed)
    return {"value": measure(unit.model, unit.images, clean.heatmaps, clean.targets)}


def mosaic(unit: Unit, seed: int) -> Values | None:
    """The positive map's share in the photo's own quarter, beyond chance; three photos of other classes beside it."""
    clean = unit.clean(seed)
    count, tiles = len(unit.images), tile(unit.images)
    chosen, known = list[list[int]](), list[bool]()
    for place in range(count):
        # the next photos that are taken for another class
        others = [(place + step) % count for step in range(1, count)]
        others = [other for other in others if clean.targets[other] != clean.targets[place]][:3]
        known.append(len(others) == 3)
        quarters = (others + [place] * 3)[:3]
        quarters.insert(place % 4, place)
        chosen.append(quarters)
    if not any(known):
        return None
    size = (unit.images.shape[2], unit.images.shape[3])
    maps = unit.explained(unit.explainer(seed), joined(tiles[torch.tensor(chosen)], size), clean.targets).heatmaps
    fine = resize(maps, size).relu()
    middle = [(side + 1) // 2 for side in size]
    halves = [(slice(side), slice(side, None)) for side in middle]
    own = [fine[i, halves[0][i % 4 // 2], halves[1][i % 2]].sum() if known[i] else torch.nan for i in range(count)]
    share = torch.stack([torch.as_tensor(value).to(fine) for value in own]) / fine.sum((1, 2))
    return {"value": (share - 0.25) / 0.75}


def randomised(unit: Unit, seed: int) -> Values:
    clean, drawn = unit.clean(seed), copy.deepcopy(unit.model)
    blocks = blocks_from_the_top(unit.model, unit.images[:1])[: unit.budgets.blocks]
    found = []
    for place, block in enumerate(blocks):
        draw_anew(find_layer(drawn, block), seed + place)
        after = unit.explained(unit.explainer(seed), unit.images, clean.targets, drawn).heatmaps
        found.append(spearman(clean.heatmaps.abs(), after.abs()))
    # a map that is empty on a random network has no order
    return {"value": torch.stack(found).nanmean(0)}


def lead(unit: Unit, seed: int) -> Values | None:
    try:
        contrasted = Contrast(unit.explainer(seed))
    except InputError:
        # it explains no score
        return None
    clean = unit.clean(seed)
    return {"value": spearman(clean.heatmaps, unit.explained(contrasted, unit.images, clean.targets).heatmaps)}


def passes(unit: Unit, seed: int) -> Values:
    spent = passes_of(unit.model, unit.explainer(seed), unit.images[:1])
    return {"value": torch.full((len(unit.images),), spent)}


MEASURES: Mapping[str, Callable[[Unit, int], Values | None]] = {
    "noise": noise,
    "fgsm": fgsm,
    "naive": naive,
    "pgd": pgd,
    "patch": patch,
    "corruption": corruption,
    "fooled": fooled,
    "fooled_knowing": fooled_knowing,
    "certified": certified,
    "aopc": aopc,
    "deletion": deletion,
    "road": road,
    "mosaic": mosaic,
    "randomised": randomised,
    "lead": lead,
    "passes": passes,
}
"""By the names of :data:`heatproof.studies.board.columns.COLUMNS`."""


def cell(unit: Unit, column: str, seed: int) -> list[dict[str, Any]]:
    """A row per photo; none where the column says nothing of this row."""
    values = MEASURES[column](unit, seed)
    if values is None:
        return []
    listed = {name: [None if v != v else v for v in value.double().tolist()] for name, value in values.items()}
    return [
        {
            "image": image,
            "network": unit.opened.name,
            "explainer": unit.row.explainer,
            "defence": unit.row.defence,
            "settings": unit.row.text,
            "column": column,
            "seed": seed,
            "key": unit.digits(column),
            **{name: listed[name][place] if name in listed else None for name in ("value", *KEPT)},
        }
        for place, image in enumerate(unit.opened.ids)
    ]
