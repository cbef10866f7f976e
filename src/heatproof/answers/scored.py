"""What a verb is asked to explain: a score by name, in a spec or as an object, given to its explainers and models."""

from collections.abc import Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch

from heatproof import catalog, spec
from heatproof.data.in_memory import pixels_of
from heatproof.data.photos import fit
from heatproof.errors import InputError, SpecError
from heatproof.explainers.scores import SCORES, Likeness, Score, is_of_class
from heatproof.explainers.together import predict
from heatproof.models.classifier import Classifier, Reading
from heatproof.models.readings import Detection, OverMask
from heatproof.types import changed_inside

E = TypeVar("E")
Asked = str | Score | OverMask | Detection
"""A score by name, in a spec or as an object."""


class Scored(NamedTuple):
    """Explainers and models that were given the score."""

    explainers: tuple[Any, ...]
    models: tuple[Classifier, ...]
    reading: Reading | None = None
    lower: Score | None = None
    """The score, where it is no class's: what attacks lower."""

    def given(self) -> dict[str, str]:
        """For the settings of a run: a reading, which the explainers do not say."""
        return {} if self.reading is None else {"score": repr(self.reading)}


def as_score(given: Asked) -> Score | OverMask | Detection:
    """A name, or the object that a spec describes.

    Raises:
        SpecError: there is no such score, naming the nearest.
    """
    if not isinstance(given, str):
        return given
    spec.check(given, catalog.SCORES, "score")
    if given.strip() in ("likeness", "likeness()"):
        raise SpecError(
            "likeness is that to a photo, likeness('ada.png'); that of pairs of photos is measured by heatproof shift "
            "PAIRS.csv --score likeness"
        )
    plain = _folded(given.strip().removesuffix("()"))
    named: Any = next((name for name in SCORES if _folded(name) == plain), None)
    return named or spec.build(given, catalog.SCORES, "score")


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


def scored(
    score: Asked | None, explainers: Sequence[Any], models: Sequence[Classifier], *, alike: bool = False
) -> Scored:
    """Each explainer with the score, unless it names one of its own or has none; readings go to copies of the models.

    Args:
        alike: the models after the first were made from it (a fooling of it), and embed a reference photo as it does.

    Raises:
        SpecError: there is no such score.
        InputError: a photo or a mask cannot be read; a likeness for models that embed photos in different ways.
    """
    if score is None:
        return Scored(tuple(explainers), tuple(models))
    wanted = as_score(score)
    if isinstance(wanted, OverMask | Detection):
        reading = _on_photo(wanted, models) if isinstance(wanted, OverMask) and wanted.file is not None else wanted
        return Scored(tuple(explainers), tuple(_reading(model, reading) for model in models), reading)
    if isinstance(wanted, Likeness) and wanted.file is not None:
        if len(models) > 1 and not alike:
            raise InputError(
                f"a likeness is to one network's embedding of {wanted.file}, and {len(models)} models were given; give "
                "one at a time"
            )
        photo = fit(pixels_of(wanted.file), models[0].preprocessing)[None]
        there = next((value.device for value in models[0].parameters()), torch.device("cpu"))
        wanted = wanted.embedded(predict(models[0], photo.to(there)))
    lower = None if is_of_class(wanted) else wanted
    return Scored(tuple(_with(explainer, wanted) for explainer in explainers), tuple(models), lower=lower)


def _with(explainer: E, score: Score) -> E:
    # a defence has no score of its own: what it wraps has
    explainer = changed_inside(explainer, lambda one: _with(one, score))
    own = {field.name: field.default for field in fields(explainer)} if is_dataclass(explainer) else {}
    free = "score" in own and getattr(explainer, "score", None) == own["score"]
    return replace(explainer, score=score) if free else explainer  # type: ignore[type-var]


def _reading(model: Classifier, reading: Reading) -> Classifier:
    """A copy that shares the network: the model that was given stays as it is."""
    own = copy(model)
    own.reading = reading
    return own


def _on_photo(mask: OverMask, models: Sequence[Classifier]) -> OverMask:
    """The mask of a picture's file, resized and cropped as the models' photos are."""
    ways = {model.preprocessing for model in models}
    if len(ways) > 1:
        raise InputError(
            f"photos come to these {len(models)} models in different ways, and the mask {mask.file} fits one: say it "
            "for all (--input-size, --resize, --fit), or give one model at a time"
        )
    assert mask.file is not None
    wanted = replace(next(iter(ways)), channels=1, alpha=False, interpolation="nearest", range=None)
    inside = fit(pixels_of(mask.file), wanted)[0] > 0.5
    if not inside.any():
        raise InputError(f"the mask {mask.file} has no pixel brighter than grey in what the network sees of it")
    return OverMask(inside.float())
