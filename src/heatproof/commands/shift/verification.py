"""Pairs of photos in a shift: how alike a network finds them, and from which likeness on it calls them the same."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from heatproof.commands.shift.measure import Shift
from heatproof.commands.shift.run import run_shift
from heatproof.commands.shift.summary import BY
from heatproof.data.batches import batches
from heatproof.data.listing import unique
from heatproof.data.photo_pairs import PhotoPairs
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.verifier import embed, facing, verifier
from heatproof.preprocessing import Preprocessing
from heatproof.processes import Processes
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.types import settings


@settings
class Verification:
    """Compare each photo with its reference photo: what ``--score likeness(threshold=0.4)`` says.

    Args:
        threshold: the cosine from which on two photos are called the same; ``None`` takes the one that tells most of
            the very pairs apart that are attacked, which flatters the network.

    Raises:
        InputError: a threshold that is no cosine.
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise InputError(f"the threshold is a cosine in [-1, 1], got {self.threshold}")


Opened = Callable[[Preprocessing], PhotoPairs]
"""The pairs for a model, by how photos come to it."""


@dataclass(frozen=True)
class Facing:
    """The reference photos of pairs, for :func:`~heatproof.commands.shift.run.run_shift`."""

    opened: Opened
    hardware: Hardware

    def __call__(self, model: Classifier, ids: Sequence[str]) -> AbstractContextManager[None]:
        if not ids:
            return nullcontext()
        references = self.opened(model.preprocessing).facing(ids, model.preprocessing)
        return facing(model, self.hardware.bring(references))


@dataclass(frozen=True)
class Likenesses:
    """How alike a network finds the photos of each pair.

    Attributes:
        cosines: in [-1, 1], ``[pairs]``.
        same: whether they show the same person, ``[pairs]``.
    """

    cosines: NDArray[np.float64]
    same: NDArray[np.bool_]

    @property
    def best_threshold(self) -> float:
        """The cosine that tells most pairs right: halfway between the two neighbours, the lowest of several.

        >>> Likenesses(np.array([0.1, 0.3, 0.4, 0.8]), np.array([False, False, True, True])).best_threshold
        0.35
        """
        ordered = np.unique(self.cosines)
        between = np.concatenate([[-1.0], (ordered[:-1] + ordered[1:]) / 2, [1.0]])
        right = [self.accuracy(threshold) for threshold in between]
        return round(float(between[int(np.argmax(right))]), 6)

    def accuracy(self, threshold: float) -> float:
        """Share of the pairs that are told right. **Range** [0, 1]."""
        return float(((self.cosines > threshold) == self.same).mean())

    @property
    def auc(self) -> float:
        """How often a pair of the same person is more alike than one of two. **Range** [0, 1], 0.5 by chance."""
        return ranked_above(self.cosines[self.same], self.cosines[~self.same])


def ranked_above(a: ArrayLike, b: ArrayLike) -> float:
    """Share of the pairs (x of a, y of b) with x > y, ties as one half: the area under the ROC curve.

    >>> ranked_above([0.5, 0.9], [0.1, 0.5])
    0.875
    """
    x, y = np.asarray(a)[:, None], np.asarray(b)[None]
    return float(((x > y) + 0.5 * (x == y)).mean())


def likenesses(
    model: Classifier, pairs: PhotoPairs, hardware: Hardware = Hardware(), batch_size: int = 32
) -> Likenesses:
    """The cosines of the labelled pairs, by a verifier's network.

    Raises:
        InputError: no pair is labelled, all are of one kind, or a reference photo cannot be read.
    """
    found, same = [], []
    for batch in batches(pairs.photos, model.preprocessing, batch_size):
        references = pairs.facing(batch.ids, model.preprocessing)
        with hardware.autocast():
            a, b = (embed(model, hardware.bring(images)) for images in (batch.images, references))
        cosines = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)
        known = batch.labels >= 0
        found += cosines.cpu()[known].tolist()
        same += (batch.labels[known] == 1).tolist()
    if len(set(same)) < 2:
        raise InputError(
            f"{pairs.photos.name} does not say of pairs of both kinds, same and different, what they are: a threshold "
            "cannot be chosen on it; give one: likeness(threshold=0.4)"
        )
    return Likenesses(np.asarray(found), np.asarray(same))


def run_verification(
    settings: Shift,
    asked: Verification,
    models: Sequence[Classifier],
    opened: Opened,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    advance: Callable[[float], None] = lambda count: None,
) -> dict[str, Any]:
    """A shift over pairs of photos: the first of each is attacked, its likeness to the second is explained.

    Args:
        models: embedding networks.
        opened: the pairs; label 1 is the same person.

    Returns:
        The summary of :func:`~heatproof.commands.shift.run.run_shift`, in which ``top1`` is the verification accuracy,
        with ``verification``: per model its threshold, and ``kinds``: MOD and accuracy of pairs of one person and of
        two. The other processes return an empty one.

    Raises:
        InputError: a threshold is to be chosen, and the pairs are not labelled; a reference photo cannot be read.
    """
    verifiers = []
    for model in models:
        threshold = asked.threshold
        if threshold is None:
            unset = hardware.host(verifier(model))
            pairs = opened(model.preprocessing)
            threshold = likenesses(unset, pairs, hardware, settings.part).best_threshold
        verifiers.append(verifier(model, threshold))
    summary = run_shift(
        settings,
        verifiers,
        lambda model: opened(model.preprocessing).photos,
        run,
        hardware=hardware,
        processes=processes,
        facing=Facing(opened, hardware),
        advance=advance,
    )
    if not processes.ends:
        return {}
    names = unique([model.name for model in models])
    thresholds = {name: model.network.threshold for name, model in zip(names, verifiers, strict=True)}
    whence = "as given" if asked.threshold is not None else "the one that tells most of these very pairs right"
    table = pl.read_parquet(run.path("images.parquet")).filter(pl.col("label").is_not_null())
    kinds = summarise(table, (*BY, "label"), {"nissim": "mod", "correct": "accuracy"}) if table.height else []
    summary |= {
        "verification": [{"model": name, "threshold": number} for name, number in thresholds.items()],
        "kinds": [row.plain() for row in kinds],
        "answer": [
            *(
                f"{name} calls two photos the same from a cosine of {number:.3f} on ({whence})."
                for name, number in thresholds.items()
            ),
            *summary["answer"],
        ],
    }
    run.write_json("summary.json", summary)
    return summary
