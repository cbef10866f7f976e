"""The cells of the board: what each column measures of one row, from maps that are made once."""

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from heatproof.attacks.corruption import Corruption
from heatproof.attacks.gradient import PGD
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.objectives import Goal, move_heatmap
from heatproof.attacks.patch import Patch
from heatproof.commands.audit.mosaic import joined, tile
from heatproof.commands.passes import counting
from heatproof.data.sources import Source
from heatproof.defences.contrast import Contrast
from heatproof.errors import InputError
from heatproof.heatmaps import resize
from heatproof.manipulation.penalties import TopK
from heatproof.metrics.faithfulness import AOPC, Deletion
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.randomisation import blocks_from_the_top, draw_anew
from heatproof.metrics.removal import unordered
from heatproof.metrics.road import ROAD
from heatproof.metrics.similarity import nissim, spearman, topk_intersection
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import find_layer
from heatproof.results.run import Run
from heatproof.studies.board.columns import KEPT
from heatproof.studies.board.lies import LIES, Lies
from heatproof.studies.board.networks import Network, Row, is_noisy, needs_softplus, seeded
from heatproof.types import Attack, Explainer, Heatmaps, Images, PerImage, Targets, settings

Values = dict[str, PerImage]
"""``value`` of each photo, and what is kept beside it."""


@settings
class Budgets:
    """What every row is tried with.

    Args:
        epsilon: of noise, FGSM and PGD, in pixel units of [0, 1].
        steps: of PGD and of the patch.
        kinds, severity: of the corruptions.
        removals: squares that AOPC removes, and steps of deletion.
        fractions: of the pixels, that ROAD removes.
        blocks: so many are drawn anew, from the top.
    """

    epsilon: float = 4 / 255
    steps: int = 5
    kinds: tuple[str, ...] = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
    severity: int = 3
    removals: int = 20
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5)
    blocks: int = 3


@dataclass(frozen=True)
class Opened:
    """A network of the board, loaded, with its photos.

    Attributes:
        name: on the board.
        key: in the names of files; a submission's network has its own.
        network: where it comes from.
        model: it.
        ids, images: that are explained.
        watched: labelled photos by which accuracy is held; none of them is explained.
        small: up to 64 pixels.
    """

    name: str
    key: str
    network: Network
    model: Classifier
    ids: list[str]
    images: Images
    watched: Source
    small: bool

    @property
    def at_once(self) -> int:
        """Photos in one call of an explainer, so that an attack's graph fits the memory."""
        return 8 if self.small else 2


@dataclass(frozen=True)
class Made:
    """Maps of photos, made once.

    Attributes:
        certified: the share that a certificate covers, where there is one.
    """

    heatmaps: Heatmaps
    logits: Tensor
    targets: Targets
    certified: PerImage | None = None


@dataclass
class Unit:
    """One row on one network: its maps are made once, and every column reads them.

    Attributes:
        attacks: further attackers who know this row, as a submission names them.
    """

    run: Run
    opened: Opened
    row: Row
    budgets: Budgets
    lies: Lies
    hardware: Hardware = field(default_factory=Hardware)
    attacks: tuple[Attack, ...] = ()
    _made: dict[int, Made] = field(default_factory=dict[int, Made])

    @property
    def model(self) -> Classifier:
        return self.opened.model

    @property
    def images(self) -> Images:
        return self.opened.images

    @property
    def noisy(self) -> bool:
        return is_noisy(self.row.map)

    def explainer(self, seed: int) -> Explainer:
        """The row's, with the draws of this seed."""
        return seeded(self.row.map, seed)

    def digits(self, column: str) -> str:
        """What all numbers of a column of this row depend on, but the seed: cells with the same are the same."""
        fooling = self.lies.asked if column.startswith("fooled") else ""
        photos = digits_of(*self.opened.ids)
        return digits_of(
            fingerprint(self.model),
            photos,
            self.row.text,
            self.budgets,
            column,
            fooling,
            self.attacks,
            len(self.images),
        )

    def clean(self, seed: int) -> Made:
        """The maps of the photos as they are; of an explainer that draws nothing the same for every seed."""
        own = seed if self.noisy else 0
        if own not in self._made:
            name = f"kept/{key_of(self.opened, self.row.map, f'map-{own}')}"
            found = self._kept(name, lambda: vars(self.explained(self.explainer(own), self.images)))
            self._made[own] = Made(**{"certified": None, **found})
        return self._made[own]

    def explained(
        self,
        explainer: Explainer,
        images: Images,
        targets: Targets | None = None,
        model: Classifier | None = None,
    ) -> Made:
        """The maps of any photos, a few at once."""
        heatmaps, logits, classes, shares = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
        for part in self._parts():
            some = None if targets is None else targets[part]
            found = explainer(model or self.model, images[part], some)
            heatmaps.append(found.heatmaps.detach().float())
            logits.append(found.logits.detach().float())
            classes.append(found.targets)
            if found.certificate is not None:
                shares.append(found.certificate.share.float())
        certified = torch.cat(shares) if shares else None
        return Made(torch.cat(heatmaps), torch.cat(logits), torch.cat(classes), certified)

    def moved(self, seed: int, images: Images) -> Values:
        """How much of the clean map is left on these photos; NaN where the clean map orders nothing."""
        clean = self.clean(seed)
        found = self.explained(self.explainer(seed), images, clean.targets)
        maps = clean.heatmaps, found.heatmaps
        empty = unordered(clean.heatmaps, "most")
        values = {
            "value": topk_intersection(*maps),
            "spearman": spearman(*maps),
            "nissim": nissim(*maps, size=self.model.input_size),
        }
        kept = found.logits.argmax(1) == clean.targets
        return {**{name: value.masked_fill(empty, torch.nan) for name, value in values.items()}, "kept": kept.float()}

    def attacked(self, attack: Attack, seed: int, explainer: Explainer | None = None) -> Images:
        """The photos after an attack on the map that knows the explainer: this row's, or another."""
        climbed = self.explainer(seed) if explainer is None else explainer
        goal = goal_of(self.model, climbed)
        return torch.cat([attack(goal, self.images[part]) for part in self._parts()])

    def _parts(self) -> list[slice]:
        each = max(1, self.opened.at_once // (4 if self.noisy else 1))
        return [slice(first, first + each) for first in range(0, len(self.images), each)]

    def _kept(self, name: str, make: Callable[[], Mapping[str, Tensor | None]]) -> dict[str, Tensor]:
        """Tensors from the run folder, made where they are not there yet."""
        file = self.run.path(f"{name}.safetensors")
        if not file.exists():
            found = {key: value for key, value in make().items() if isinstance(value, Tensor)}
            self.run.write_tensors(f"{name}.safetensors", found)
        return {key: self.hardware.bring(value) for key, value in load_file(file).items()}

    def naive(self, seed: int) -> Images:
        """The photos after PGD against the plain explainer, which all its defences share."""
        plain = self.row.plain
        attack = PGD(self.budgets.epsilon, self.budgets.steps, seed=seed)
        name = f"kept/{key_of(self.opened, plain, f'naive-{seed}')}"
        return self._kept(name, lambda: {"images": self.attacked(attack, seed, plain)})["images"]


def goal_of(model: Classifier, explainer: Explainer) -> Goal:
    """What an attacker who knows the explainer raises: its top cells moved, the class held."""
    return move_heatmap(
        model,
        explainer,
        TopK(),
        betas=(10, 100) if needs_softplus(explainer) else None,
        draws=1 if is_noisy(explainer) else 0,
    )


def key_of(opened: Opened, explainer: Explainer, what: str) -> str:
    """A name for a file of this network and explainer."""
    text = repr(explainer)
    return f"{opened.key}-{plain_letters(text)[:40]}-{digits_of(text)}-{what}"


def plain_letters(text: str) -> str:
    """A text as part of a file's name.

    >>> plain_letters("GradCAM(relu=False)")
    'gradcam-relu-false-'
    """
    return re.sub("[^a-z0-9_]+", "-", text.casefold())


def digits_of(*parts: object) -> str:
    """What tells texts apart, in eight letters."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:8]


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
    explainer = unit.explainer(seed)
    explainer(unit.model, unit.images[:1])
    with counting(unit.model) as spent:
        explainer(unit.model, unit.images[:1])
    return {"value": torch.full((len(unit.images),), float(spent.forward + spent.backward))}


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
