"""What the live page shows: one photo, clean and attacked, as one or two networks see it; no pass is made twice."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, TypeVar

import torch

from heatproof.attacks.gradient import FGSM
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.objectives import Goal, misclassify, move_heatmap
from heatproof.commands.photos import in_one_way
from heatproof.commands.shift.measure import CLEAN, Condition, Shift, attack_name, succeeded
from heatproof.data.batches import Batch
from heatproof.data.classes import is_imagenet
from heatproof.data.listing import unique
from heatproof.data.photos import fit
from heatproof.data.sources import Source
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.occlusion import filling_of, patch_masks
from heatproof.explainers.together import explain_together, predict
from heatproof.heatmaps import cells_inside, is_empty, mass, normalise, resize
from heatproof.metrics.similarity import known_nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer, list_layers, logit_count
from heatproof.report.payload import MOVED
from heatproof.report.style import percent
from heatproof.types import BallAttack, DirectedAttack, Explainer, Heatmaps, Images, Penalty, is_signed, settings

T = TypeVar("T")

KEPT = 96
"""Passes that are kept: what a slider is moved back to is there already."""


@settings
class Wanted:
    """What is looked at.

    Args:
        photo: its place in the data.
        explainer: with its layer and its smoothing.
        target: the class that is explained; ``None``: what the first network answers to the clean photo.
        attack: with its epsilon; of 0 the photo stays as it is.
        penalty: the attack moves the map and keeps the label; ``None``: it raises the cross-entropy of the network
            to its own answer.
    """

    photo: int = 0
    explainer: Explainer = GradCAM()
    target: int | None = None
    attack: BallAttack = FGSM(epsilon=0.0)
    penalty: Penalty | None = None


@dataclass(frozen=True)
class Sight:
    """What one network makes of the photo.

    Attributes:
        name: of the network.
        model: itself.
        classes: the names of its classes, as the page has them: two libraries spell some otherwise.
        clean, attacked: pixels, map and logits; the same where epsilon is 0.
        nissim: of the two maps, in [0, 1]; 0 is the same map, NaN of two without a positive part.
    """

    name: str
    model: Classifier
    classes: Sequence[str]
    clean: Condition
    attacked: Condition
    nissim: float

    def answers(self, condition: Condition) -> list[tuple[str, float]]:
        """The three likeliest classes with their probabilities."""
        likeliest = condition.grid.logits[0].float().softmax(0).topk(min(3, condition.grid.logits.shape[1]))
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        return [(self.classes[int(index)], value) for index, value in pairs]

    def probability(self, condition: Condition) -> float:
        """Of the class that is explained."""
        return float(condition.grid.logits[0].float().softmax(0)[int(condition.grid.targets[0, 0])])

    @property
    def sentence(self) -> str:
        """What became of label and map under the attack."""
        (before, sure), *_ = self.answers(self.clean)
        if self.attacked is self.clean:
            return f"{self.name} answers {before} ({percent(sure)})."
        (after, surer), *_ = self.answers(self.attacked)
        label = f"stays {before} ({percent(sure)}, then {percent(surer)})"
        if after != before:
            label = f"turns from {before} ({percent(sure)}) into {after} ({percent(surer)})"
        if isnan(self.nissim):
            none = describe_none(map_of(self.clean), map_of(self.attacked))
            return f"{self.name}: the label {label}; {none}, so whether the map moves cannot be told."
        moved = "moves" if self.nissim > MOVED else "hardly moves"
        return f"{self.name}: the label {label}; the map {moved}, NISSIM {self.nissim:.3f}."


@dataclass(frozen=True)
class Look:
    """What is seen of one photo.

    Attributes:
        wanted: what was asked, with the class in numbers.
        image: the photo's name.
        label: its class in the data, or -1.
        sights: of each network.
        differences: the first network's map minus the second's, each over its own largest value: clean, and attacked;
            none of one network.
        apart: NISSIM between the two networks' maps, clean and attacked; NaN of two without a positive part.
    """

    wanted: Wanted
    image: str
    label: int
    sights: tuple[Sight, ...]
    differences: tuple[Heatmaps, ...] = ()
    apart: tuple[float, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What is seen, in words."""
        said = [sight.sentence for sight in self.sights]
        if self.apart:
            said.append(self._apart)
        return said

    @property
    def changed(self) -> str:
        """What became of the photo: attacked, or with noise that nobody aimed."""
        return "with noise" if isinstance(self.wanted.attack, RandomSign) else "attacked"

    @property
    def _apart(self) -> str:
        """How far the two networks' maps are apart, as far as they have a positive part."""
        clean, attacked = self.apart
        still = self.sights[0].attacked is self.sights[0].clean
        if isnan(clean):
            none = describe_none(*(map_of(sight.clean) for sight in self.sights))
            if still or isnan(attacked):
                return f"How far the two networks' maps are apart cannot be told: {none}."
            also = f"{self.changed} they are {attacked:.3f} apart (NISSIM)"
            return f"How far the two networks' maps of the clean photo are apart cannot be told: {none}; {also}."
        then = "cannot be told" if isnan(attacked) else f"{attacked:.3f}"
        also = "" if still else f", {self.changed} {then}"
        return f"The two networks' maps of the clean photo are {clean:.3f} apart (NISSIM){also}."

    def batch(self, place: int) -> Batch:
        """The photo as data of network number ``place``; where there are two, its name says which."""
        sight = self.sights[place]
        name = self.image if len(self.sights) == 1 else f"{self.image} · {place + 1} {sight.name}"
        return Batch([name], sight.clean.images, torch.tensor([self.label]))


@dataclass(frozen=True)
class Covered:
    """What the network loses where a square of the photo is filled with the photo's mean colour.

    Attributes:
        box: left, top, right and bottom of the square in pixels.
        logits: of the explained class, before and after.
        probabilities: likewise, in [0, 1].
        answer: the likeliest class afterwards.
        share: of the map's positive part that lies in the square, in [0, 1]; ``None`` of a map without one.
        area: of the photo, in [0, 1]: what an even map would put there.
    """

    box: tuple[int, int, int, int]
    logits: tuple[float, float]
    probabilities: tuple[float, float]
    answer: str
    share: float | None
    area: float


class Live:
    """Networks and photos that are looked at; every pass is kept until :data:`KEPT` others came.

    Args:
        models: one, or two of the same classes.
        source: the photos.
        hardware: where the networks run.

    Raises:
        InputError: no photo, or two networks whose photos or classes are not the same.
    """

    def __init__(self, models: Sequence[Classifier], source: Source, hardware: Hardware = Hardware()):
        if len(source) == 0:
            raise InputError(f"{source.name} holds no photo to look at")
        self.models = [hardware.host(model) for model in in_one_way(models)]
        self.names = unique([model.name for model in self.models])
        self.source, self.hardware = source, hardware
        self.classes = _same_classes(self.models)
        self.default = default_layer(self.models[0])
        maps = [{layer.name for layer in list_layers(model) if _has_map(layer.layout, layer.shape)} for model in models]
        self.layers = [layer.name for layer in list_layers(self.models[0]) if all(layer.name in one for one in maps)]
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def look(self, wanted: Wanted) -> Look:
        """Maps and answers, clean and attacked.

        Raises:
            HeatproofError: a photo that cannot be read, a class or layer that is not there, an explainer that does not
                fit the network.
        """
        if not 0 <= wanted.photo < len(self.source):
            raise InputError(f"there are {len(self.source)} photos, counted from 0, and none is {wanted.photo}")
        if wanted.target is not None and not 0 <= wanted.target < len(self.classes):
            raise InputError(f"there are {len(self.classes)} classes, counted from 0, and none is {wanted.target}")
        if wanted.target is None:
            first = self._clean(0, wanted)
            wanted = replace(wanted, target=int(first.grid.targets[0, 0]))
            self._clean(0, wanted, first)
        return self._once(("look", wanted), lambda: self._look(wanted))

    def cover(self, wanted: Wanted, number: int, attacked: bool, center: tuple[float, float], side: float) -> Covered:
        """Cover a square under the pointer, and ask the network again.

        Args:
            number: of the network.
            attacked: the attacked photo instead of the clean one.
            center: column and row as shares of the photo, in [0, 1]; the square stays inside.
            side: of the square, as a share of the photo's shorter side, in (0, 1].

        Raises:
            InputError: a network, place or side that is none.
        """
        if not (0 <= number < len(self.models) and all(0 <= c <= 1 for c in center) and 0 < side <= 1):
            raise InputError("a square is covered in one of the networks' photos, with shares in [0, 1]")
        sight = self.look(wanted).sights[number]
        seen = sight.attacked if attacked else sight.clean
        rows, cols = seen.images.shape[2:]
        patch = max(1, round(side * min(rows, cols)))
        left, top = (
            min(max(0, round(c * n - patch / 2)), n - patch) for c, n in zip(center, (cols, rows), strict=True)
        )
        mask = patch_masks(rows, cols, patch, [(top, left)]).to(seen.images)[:, None]
        logits = predict(sight.model, seen.images * mask + filling_of(seen.images, "mean", patch) * (1 - mask))
        target = int(seen.grid.targets[0, 0])
        heatmap = map_of(seen)
        box = (left / cols, top / rows, (left + patch) / cols, (top + patch) / rows)
        pair = (seen.grid.logits[0].float(), logits[0].float())
        return Covered(
            (left, top, left + patch, top + patch),
            (float(pair[0][target]), float(pair[1][target])),
            (float(pair[0].softmax(0)[target]), float(pair[1].softmax(0)[target])),
            self.classes[int(logits[0].argmax())],
            None if bool(is_empty(heatmap, "max")) else float(mass(heatmap, cells_inside(box, heatmap[0]))),
            patch * patch / (rows * cols),
        )

    def _look(self, wanted: Wanted) -> Look:
        image, label, _ = self._photo(wanted.photo)
        sights = tuple(self._sight(number, wanted) for number in range(len(self.models)))
        if len(sights) == 1:
            return Look(wanted, image, label, sights)
        pairs = list(zip(*((map_of(sight.clean), map_of(sight.attacked)) for sight in sights), strict=True))
        signed, size = is_signed(wanted.explainer), self.models[0].input_size
        differences = tuple(_difference(a, b, signed) for a, b in pairs)
        apart = tuple(float(known_nissim(a, b, size=size)) for a, b in pairs)
        return Look(wanted, image, label, sights, differences, apart)

    def _sight(self, number: int, wanted: Wanted) -> Sight:
        model, clean = self.models[number], self._clean(number, wanted)
        if wanted.attack.epsilon == 0:
            return Sight(self.names[number], model, self.classes, clean, clean, 0.0)
        attacked = self._once(("attacked", number, wanted), lambda: self._attacked(number, wanted, clean))
        moved = float(known_nissim(map_of(clean), map_of(attacked), size=model.input_size))
        return Sight(self.names[number], model, self.classes, clean, attacked, moved)

    def _clean(self, number: int, wanted: Wanted, known: Condition | None = None) -> Condition:
        def explained() -> Condition:
            images = self.hardware.bring(self._photo(wanted.photo)[2])
            targets = None if wanted.target is None else torch.tensor([[wanted.target]], device=images.device)
            with self.hardware.autocast():
                grid = explain_together(self.models[number], images, [wanted.explainer], targets)
            return Condition(CLEAN, 0.0, images, grid, torch.zeros(1, dtype=torch.bool))

        key = ("clean", number, wanted.photo, wanted.explainer, wanted.target)
        return self._once(key, lambda: known or explained())

    def _attacked(self, number: int, wanted: Wanted, clean: Condition) -> Condition:
        model, attack = self.models[number], wanted.attack
        goal = misclassify(model, clean.grid.logits.argmax(1))
        about: tuple[Any, ...] = (number, wanted.photo)
        if wanted.penalty is not None:
            # who attacks knows the explainer, and not that its maps are smoothed
            plain = wanted.explainer.explainer if isinstance(wanted.explainer, Smoothed) else wanted.explainer
            goal = move_heatmap(model, plain, wanted.penalty, targets=clean.grid.targets[:, 0])
            about = (*about, plain, wanted.target, wanted.penalty)
        with self.hardware.autocast():
            images = self._once(("images", attack, *about), lambda: self._moved(attack, goal, clean.images, about))
            grid = explain_together(model, images, [wanted.explainer], clean.grid.targets)
        reached = succeeded(shift_of(wanted), goal, clean.grid, grid, images)
        return Condition(attack_name(attack), attack.epsilon, images, grid, reached)

    def _moved(self, attack: BallAttack, goal: Goal, images: Images, about: tuple[Any, ...]) -> Images:
        if not isinstance(attack, DirectedAttack):
            return attack(goal, images)
        # the same for every epsilon
        key = ("direction", attack_name(attack), *about)
        return attack.along(images, self._once(key, lambda: attack.direction(goal, images)))

    def _photo(self, place: int) -> tuple[str, int, Images]:
        """Name, label and pixels as the networks get them."""

        def made() -> tuple[str, int, Images]:
            name = self.source.ids[place]
            try:
                photo = self.source[place]
                return photo.id, photo.label, fit(photo.image, self.models[0].preprocessing)[None]
            except InputError as error:
                # sources of files leave the name to those who list what was skipped
                raise InputError(str(error) if name in str(error) else f"{name} {error}") from error

        return self._once(("photo", place), made)

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        # by text: an explainer may hold what cannot be hashed, and its text says all that it is
        texts = tuple(map(repr, key))
        if texts in self._kept:
            self._kept.move_to_end(texts)
        else:
            self._kept[texts] = make()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[texts]


def shift_of(wanted: Wanted) -> Shift:
    """The settings of ``heatproof shift`` that measure the same."""
    return Shift(explainers=(wanted.explainer,), penalty=wanted.penalty)


def map_of(condition: Condition) -> Heatmaps:
    """The map that was asked for."""
    return condition.grid.heatmaps[0][:, 0].float()


def describe_none(a: Heatmaps, b: Heatmaps) -> str:
    """Why nothing is known of two maps without a positive part, in words."""
    empty = bool(is_empty(a).all() and is_empty(b).all())
    return "both maps are empty" if empty else "nothing in either map is positive"


def _has_map(layout: object, shape: tuple[int, ...]) -> bool:
    return layout is not None and len(shape) == 3 and min(shape[1:]) > 1


def _difference(a: Heatmaps, b: Heatmaps, signed: bool) -> Heatmaps:
    """a - b, each over its own largest value, at the finer of the two resolutions."""
    shape = max(a.shape[1:], b.shape[1:])
    first, second = (resize(normalise(maps, "absmax" if signed else "max"), (shape[0], shape[1])) for maps in (a, b))
    return first - second


def _same_classes(models: Sequence[Classifier]) -> list[str]:
    """The names of the classes of all models, ``class 7`` where they have none.

    Raises:
        InputError: the models have not the same.
    """
    counts = [logit_count(model) for model in models]
    names = [[model.class_name(index) for index in range(count)] for model, count in zip(models, counts, strict=True)]
    first = next((known for known, model in zip(names, models, strict=True) if model.classes), names[0])
    for model, count, known in zip(models, counts, names, strict=True):
        if count != len(first):
            raise InputError(
                f"two networks are looked at side by side if they have the same classes: {models[0].name} has "
                f"{counts[0]}, {model.name} has {count}"
            )
        other = next((place for place in range(count) if model.classes and known[place] != first[place]), None)
        # libraries spell some of ImageNet's names otherwise; the page has the first network's spelling
        if other is not None and not (is_imagenet(tuple(first)) and is_imagenet(tuple(known))):
            raise InputError(
                f"two networks are looked at side by side if they have the same classes: class {other} is "
                f"{first[other]} of {models[0].name} and {known[other]} of {model.name}; if they are the same, give "
                "both one list of names: hp.app takes hp.Classifier(network, classes=[...])"
            )
    return first
