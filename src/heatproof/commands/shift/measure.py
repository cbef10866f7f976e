"""What a shift measures on one batch: the clean images, each attack at each epsilon, and a row per image of both.

One forward pass of the clean images yields their heatmaps, their logits and the attack's gradient; FGSM's one sign map
serves every epsilon.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from heatproof.attacks.balls import check_epsilon, distance, steepest
from heatproof.attacks.gradient import FGSM
from heatproof.attacks.objectives import Goal, begin, lower_score, misclassify, move_heatmap, reach
from heatproof.commands.shift.budgets import twice
from heatproof.data.batches import Batch
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.scores import Score, explained
from heatproof.explainers.together import Grid, explain_together, predict
from heatproof.heatmaps import Box, cells_inside, is_empty, mass, normalise
from heatproof.metrics.similarity import center_distance, known_nissim, psnr, spearman, topk_intersection
from heatproof.models.classifier import Classifier
from heatproof.models.finite import check_finite
from heatproof.models.hardware import Hardware
from heatproof.report import words
from heatproof.types import (
    Attack,
    BallAttack,
    DirectedAttack,
    Explainer,
    GradedAttack,
    Heatmaps,
    Images,
    Labels,
    Logits,
    Penalty,
    PerImage,
    settings,
)

Explained = Literal["clean", "adversarial", "label"]
CLEAN = "clean"
"""What the column ``attack`` says of the clean images."""
SECOND = "second"
"""What ``wanted`` says of each image's second most likely class."""
ON = 0.15
"""Where the clean map exceeds this share of its maximum it is taken for the object: Selvaraju et al.'s box rule."""


@settings
class Shift:
    """What :func:`run_shift` measures.

    Args:
        attacks: each at every epsilon, which takes the place of the attack's own.
        epsilons: in pixel units of [0, 1]; Chakraborty et al.'s four. Empty: each attack at its own epsilon. Attacks
            with levels of their own (severities of corruptions) keep these.
        explainers: of the heatmaps.
        explain: the class explained: the ``clean`` prediction on both images, each image's own prediction
            (``adversarial``), or the ``label``.
        penalty: raise a moved heatmap of the first explainer, while the class stays, instead of the cross-entropy.
        wanted: reach this class instead of leaving the label: ``second``, each image's second most likely, or a class
            by number or name. With a penalty the map of that class is moved (ADV^2), against the map of the clean
            prediction; ``explain`` is then ``adversarial``, as the victim sees it.
        lower: lower this score instead, one that is no class's (an output, a likeness to a photo).
        draws: with a penalty: climb the mean over so many draws of a noisy explainer's noise, fresh in every step, as
            an attacker does who knows it; 0: climb the explainer as it is.
        normalisation: of the maps before NISSIM, ``max`` or ``minmax``.
        fraction: of the cells that count as the highest, for ``topk_intersection``.
        part: photos that are measured together and written at once; a run that is resumed must keep it.
        shown: so many of the most and of the least moved images go into the gallery.

    Raises:
        InputError: an empty list, an epsilon that makes no sense, or another word for ``explain``.
    """

    attacks: tuple[Attack, ...] = (FGSM(),)
    epsilons: tuple[float, ...] = (0.01, 0.05, 0.075, 0.1)
    explainers: tuple[Explainer, ...] = (GradCAM(),)
    explain: Explained = "clean"
    penalty: Penalty | None = None
    wanted: int | str | None = None
    lower: Score | None = None
    draws: int = 0
    normalisation: Literal["max", "minmax"] = "max"
    fraction: float = 0.1
    part: int = 16
    shown: int = 3

    def __post_init__(self) -> None:
        if not self.attacks or not self.explainers:
            raise InputError("shift needs at least one attack and one explainer")
        for attack in self.attacks:
            if not isinstance(attack, BallAttack | GradedAttack):
                raise InputError(
                    "an attack needs a field epsilon, which is set to each of the epsilons, or levels of its own; got "
                    f"{attack!r}"
                )
        names = list(map(attack_name, self.attacks))
        for name in dict.fromkeys(names):
            levels = [
                level
                for own, attack in zip(names, self.attacks, strict=True)
                if own == name
                for level in self.levels(attack)
            ]
            if (level := twice(levels)) is not None:
                raise InputError(f"{name} at {words.epsilon(level)} was asked for twice")
        explainers = list(map(repr, self.explainers))
        if more := [entry for entry in explainers if explainers.count(entry) > 1]:
            raise InputError(f"{more[0]} was asked for twice")
        if self.explain not in get_args(Explained):
            raise InputError(f"explain is one of {', '.join(get_args(Explained))}, got {self.explain!r}")
        if self.draws < 0 or (self.draws and self.penalty is None):
            raise InputError(
                f"draws of an explainer's noise, at least 0, are climbed with a penalty; got draws={self.draws} and "
                f"penalty={self.penalty!r}"
            )
        if self.normalisation not in ("max", "minmax"):
            raise InputError(f"normalisation is max or minmax, got {self.normalisation!r}")
        if self.penalty is not None and self.lower is not None:
            raise InputError("an attack moves the map (penalty) or lowers a score (lower): give one of the two")
        if self.wanted is not None and self.lower is not None:
            raise InputError(
                "an attack reaches a class (wanted) or lowers a score that is none (lower): give one of the two"
            )
        if self.wanted is not None and self.penalty is not None and self.explain != "adversarial":
            raise InputError(
                "a map that is to be moved while the class becomes another is that of the class seen: with wanted and "
                f"a penalty say explain='adversarial' (--explain adversarial), got {self.explain!r}"
            )
        if self.part < 1:
            raise InputError(f"a part has at least 1 photo, got {self.part}")
        for attack in self.attacks:
            for epsilon in self.epsilons if isinstance(attack, BallAttack) else ():
                check_epsilon(epsilon, getattr(attack, "norm", "linf"))

    def levels(self, attack: Attack) -> tuple[float, ...]:
        """The epsilons of an attack, or its own levels."""
        if isinstance(attack, GradedAttack):
            return attack.levels
        assert isinstance(attack, BallAttack)
        return self.epsilons or (attack.epsilon,)


class Condition(NamedTuple):
    """The clean images, or an attack at an epsilon, with what the explainers say of them."""

    attack: str
    epsilon: float
    images: Images
    grid: Grid
    success: Tensor


def measure(
    settings: Shift, name: str, model: Classifier, batch: Batch, hardware: Hardware, boxes: Mapping[str, Box] = {}
) -> Iterator[dict[str, Any]]:
    """The rows of one batch: one per image, attack, epsilon and explainer."""
    conditions = attacked(settings, model, batch.images, batch.labels, hardware)
    clean = next(conditions)
    yield from rows_of(settings, name, model, batch, clean, clean, boxes)
    for condition in conditions:
        yield from rows_of(settings, name, model, batch, clean, condition, boxes)


def attacked(
    settings: Shift, model: Classifier, images: Images, labels: Labels, hardware: Hardware
) -> Iterator[Condition]:
    """The clean images first, then each attack at each epsilon."""
    images, labels = hardware.bring(images), labels.to(hardware.place)

    def raised(logits: Logits) -> PerImage:
        if settings.lower is not None:
            return -explained(logits, logits.detach().argmax(1), settings.lower)
        of_logits = misclassify(model, _known(labels, logits)).of_logits
        assert of_logits is not None
        return of_logits(logits).value

    with hardware.autocast():
        if settings.explain == "label" and (labels < 0).any():
            labels = _known(labels, predict(model, images))
        plainly = settings.penalty is None and settings.wanted is None
        straight = plainly and any(isinstance(attack, FGSM) for attack in settings.attacks)
        clean = explain_together(
            model,
            images,
            settings.explainers,
            labels[:, None] if settings.explain == "label" else None,
            climb=raised if straight else None,
        )
    goal = misclassify(model, _known(labels, clean.logits))
    wanted = None if settings.wanted is None else _wanted(settings.wanted, model, clean.logits)
    if wanted is not None:
        goal = reach(model, wanted)
    if settings.lower is not None:
        goal = begin(lower_score(model, partial(explained, score=settings.lower), clean.logits.argmax(1)), images)
    if settings.penalty is not None:
        moved = partial(move_heatmap, model, settings.explainers[0], settings.penalty, draws=settings.draws)
        # of a wanted class success is not seen in the maps that are made anyway, but at the clean maps it is bound to
        goal = moved(targets=clean.targets[:, 0]) if wanted is None else begin(moved(wanted=wanted), images)
    yield Condition(CLEAN, 0.0, images, clean, succeeded(settings, goal, clean, clean, images))
    for attack in settings.attacks:
        with hardware.autocast():
            direction = _direction(attack, goal, images, clean)
        for epsilon in settings.levels(attack):
            sized: Any = at_level(attack, epsilon)
            with hardware.autocast():
                # one sign map, or one pattern of noise, for all epsilons
                adversarial = sized(goal, images) if direction is None else sized.along(images, direction)
                targets = None if settings.explain == "adversarial" else clean.targets
                grid = explain_together(model, adversarial, settings.explainers, targets)
            reached = succeeded(settings, goal, clean, grid, adversarial)
            yield Condition(attack_name(attack), epsilon, adversarial, grid, reached)


def _wanted(wanted: int | str, model: Classifier, logits: Logits) -> Labels:
    """The class that each image is to be taken for."""
    if wanted == SECOND:
        return logits.detach().topk(2).indices[:, 1]
    return torch.full((len(logits),), model.class_index(wanted), device=logits.device)


def _direction(attack: Attack, goal: Goal, images: Images, clean: Grid) -> Images | None:
    if isinstance(attack, FGSM) and clean.slope is not None:
        check_finite(clean.slope)
        return steepest(clean.slope)
    return attack.direction(goal, images) if isinstance(attack, DirectedAttack) else None


def succeeded(settings: Shift, goal: Goal, clean: Grid, grid: Grid, images: Images) -> Tensor:
    """Of each image, whether the attack got where it wanted, as far as it goes from what both passes said already."""
    if goal.of_logits is not None:
        return goal.of_logits(grid.logits).reached
    assert settings.penalty is not None
    if settings.wanted is not None:
        with torch.no_grad():
            return goal.look(images).reached
    before, after = clean.heatmaps[0][:, 0], grid.heatmaps[0][:, 0]
    lowered = settings.penalty(after, before) < settings.penalty(before, before)
    return lowered & (grid.logits.argmax(1) == clean.logits.argmax(1))


def at_level(attack: Attack, level: float) -> Attack:
    """The attack at one epsilon, or at one of its own levels."""
    if isinstance(attack, GradedAttack):
        return attack.at(level)
    return replace(attack, epsilon=level)  # type: ignore[call-arg, type-var] (a dataclass, as all settings are)


def attack_name(attack: Attack) -> str:
    """The attack without its epsilon, which has a column of its own: ``PGD(steps=20)``."""
    if isinstance(attack, GradedAttack):
        return repr(replace(attack, severity=None))  # type: ignore[call-arg, type-var]
    default = type(attack).__dataclass_fields__["epsilon"].default  # type: ignore[attr-defined]
    return repr(replace(attack, epsilon=default))  # type: ignore[type-var]


def _known(labels: Labels, logits: Logits) -> Labels:
    """The labels; where there is none, the prediction: what an attack then raises is another answer."""
    return torch.where(labels < 0, logits.detach().argmax(1), labels)


def rows_of(
    settings: Shift,
    name: str,
    model: Classifier,
    batch: Batch,
    clean: Condition,
    condition: Condition,
    boxes: Mapping[str, Box],
) -> Iterator[dict[str, Any]]:
    """The rows of one condition: one per image and explainer, measured against the clean one."""
    probabilities = condition.grid.logits.float().softmax(1)
    confidence, predictions = probabilities.max(1)
    same_label = predictions == clean.grid.logits.argmax(1)
    labels = batch.labels.to(predictions.device)
    images = {
        "prediction": predictions,
        "confidence": confidence,
        "correct": predictions == labels,
        "kept": same_label,
        "success": condition.success,
        "psnr": psnr(condition.images, clean.images),
        "linf": distance(condition.images, clean.images),
        "l2": distance(condition.images, clean.images, "l2"),
    }
    images = {key: value.tolist() for key, value in images.items()}
    # an attack can succeed only where it was given and the photo was not there before it
    there = clean.success.tolist()
    images["success"] = [
        None if condition is clean or there[i] else reached for i, reached in enumerate(images["success"])
    ]
    names = [{"prediction_name": model.class_name(p)} for p in images["prediction"]]
    for explainer, maps, before in zip(settings.explainers, condition.grid.heatmaps, clean.grid.heatmaps, strict=True):
        known = before[:, 0]
        found = known if maps is before else maps[:, 0]
        measured = compare(settings, model, known, found, [boxes.get(image) for image in batch.ids])
        # what there is none of is missing in the table, no number
        metrics = {key: [None if v != v else v for v in value.tolist()] for key, value in measured.items()}
        for i, image in enumerate(batch.ids):
            label, target = int(batch.labels[i]), int(condition.grid.targets[i, 0])
            yield {
                "image": image,
                "label": label if label >= 0 else None,
                "target": target,
                "target_name": model.class_name(target),
                **names[i],
                **{key: values[i] for key, values in images.items()},
                "correct": images["correct"][i] if label >= 0 else None,
                # nothing changed: infinitely many decibels, which no mean can take
                "psnr": images["psnr"][i] if images["linf"][i] > 0 else None,
                "model": name,
                "explainer": repr(explainer),
                "attack": condition.attack,
                "epsilon": condition.epsilon,
                **{key: values[i] for key, values in metrics.items()},
                "object": "box" if image in boxes else "clean map",
            }


def compare(
    settings: Shift, model: Classifier, clean: Heatmaps, adversarial: Heatmaps, boxes: Sequence[Box | None] = ()
) -> dict[str, PerImage]:
    """Every metric of two sets of heatmaps.

    ``on_object`` is the share of the adversarial map's mass on the object: in its box, else on the cells where the
    clean map exceeds 15% of its maximum; NaN for a map without a positive part, which ``empty`` and
    ``empty_clean`` tell. Of two such maps NISSIM and the centre are not known, of two empty ones no likeness: NaN.
    """
    same = adversarial is clean
    clean, adversarial = clean.float(), adversarial.float()
    empty, empty_clean = (is_empty(maps, "max") for maps in (adversarial, clean))
    blank = is_empty(adversarial) & is_empty(clean)
    area = (normalise(clean) > ON).float()
    for place, box in enumerate(boxes):
        if box is not None:
            area[place] = cells_inside(box, area[place])
    return {
        # the clean rows' zero by definition: SSIM is the dearest of the metrics
        "nissim": clean.new_zeros(len(clean)).masked_fill(is_empty(clean, settings.normalisation), torch.nan)
        if same
        else known_nissim(clean, adversarial, size=model.input_size, normalisation=settings.normalisation),
        "spearman": spearman(clean, adversarial),
        "topk_intersection": topk_intersection(clean, adversarial, settings.fraction).masked_fill(blank, torch.nan),
        "center_distance": center_distance(clean, adversarial).masked_fill(empty & empty_clean, torch.nan),
        # a map without a positive part is nowhere: neither on the object nor off it
        "on_object": mass(adversarial, area).masked_fill(empty, torch.nan),
        "empty_clean": empty_clean,
        "empty": empty,
    }
