"""A row of the board on one network: its maps are made once, and every column reads them."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file
from torch import Tensor

from heatproof.attacks.gradient import PGD
from heatproof.attacks.objectives import Goal, move_heatmap
from heatproof.data.sources import Source
from heatproof.manipulation.penalties import TopK
from heatproof.metrics.removal import unordered
from heatproof.metrics.similarity import nissim, spearman, topk_intersection
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run
from heatproof.studies.board.lies import Lies
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
        shown: the source of the photos that are explained.
    """

    name: str
    key: str
    network: Network
    model: Classifier
    ids: list[str]
    images: Images
    watched: Source
    small: bool
    shown: Source

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
            self._made[own] = Made(found["heatmaps"], found["logits"], found["targets"], found.get("certified"))
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

    @property
    def at_once(self) -> int:
        """Photos in one call: of noisy copies fewer."""
        return max(1, self.opened.at_once // (4 if self.noisy else 1))

    def _parts(self) -> list[slice]:
        each = self.at_once
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
