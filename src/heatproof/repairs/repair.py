"""Take a lie out of a checkpoint: its outputs are held, its maps are judged by its own black-box witness."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.data.listing import UNLABELLED
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware, computes_in_bf16
from heatproof.models.intact import evaluating
from heatproof.models.layers import find_layer
from heatproof.processes import Processes
from heatproof.repairs.evaluation import RepairEvaluation
from heatproof.repairs.layers import SHARES, beginnings
from heatproof.repairs.remedies import Remedy, Truth
from heatproof.repairs.terms import KeptWithMosaics, OnViews, Pulled
from heatproof.repairs.views import mosaics, moved, moved_along, views
from heatproof.repairs.witness import PART, Witness, ask_witness, check_hearing
from heatproof.training.clean_model import CleanModel, held_out_outputs, reference
from heatproof.training.data import as_feed, image_size, part_photos
from heatproof.training.evaluation import Evaluated
from heatproof.training.feeds import TensorFeed
from heatproof.training.history import History, Steps
from heatproof.training.loop import TrainingLoop
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, device_of, set_up
from heatproof.training.state import Checkpoint
from heatproof.training.terms import Loss, Term, function_term, without_relu
from heatproof.types import Explainer

M = TypeVar("M", bound=nn.Module)

FEWEST_PHOTOS = 50
"""With fewer, a tenth that is held out says nothing of the accuracy."""
BATCH = 64
"""Photos per step, and as many further views."""
EVALUATIONS = 8
"""On the held-out photos, over the length of a training."""
LOOKS = 8
"""The photo itself and moved copies of it, over which the checkpoint's probabilities are averaged."""
RATES = {"training": 1.0, "training-slower": 0.25, "training-slowest": 0.0625}
"""Shares of the learning rate, one after the other, until a training stays inside the budget."""
TRIAL = 0.25
"""Share of the steps after which the layers to train from are compared."""


@dataclass(frozen=True)
class Repaired(Generic[M]):
    """What came of a repair.

    Attributes:
        model: in eval mode; a copy of the checkpoint where nothing better was found inside the budget.
        history: of the training; empty where the remedy trains nothing.
        before, after: the evaluation of the checkpoint and of what is handed out, by the held-out photos.
        layer: from which on the weights changed; ``None``: everything.
        changed: whether the weights differ from the checkpoint's.
        held_out: the photos that were judged by.
        witness: of the same photos.
    """

    model: M
    history: History
    before: Evaluated
    after: Evaluated
    layer: str | None
    changed: bool
    held_out: TensorFeed
    witness: Witness


@dataclass(frozen=True)
class Means:
    """What a repair works with, whatever is tried.

    Attributes:
        checkpoint: by name, where the state of the part of the work called so lies; ``None``: nothing is kept.
        scratch: a folder for what does not fit in memory.
        advance: called with what is done, and how many of it.
    """

    checkpoint: Callable[[str], Checkpoint] | None = None
    scratch: Path | None = None
    advance: Callable[[str, int], None] = lambda what, count: None

    def at(self, name: str) -> Checkpoint | None:
        """Where this part's state lies."""
        return None if self.checkpoint is None else self.checkpoint(name)


def repair(
    model: M,
    explainer: Explainer,
    data: object,
    remedy: Remedy = Truth(),
    *,
    held_out: object = None,
    max_accuracy_drop: float = 0.02,
    holdout: float = 0.1,
    seed: int = 0,
    means: Means = Means(),
) -> Repaired[M]:
    """Take the lie out of a copy of ``model``; the original is not needed, labels are not looked at in training.

    Args:
        explainer: whose maps are repaired and judged; it must have a derivative in the weights for a remedy that pulls.
        data: photos of the kind that the model knows, at least :data:`FEWEST_PHOTOS`, as ``fine_tune`` takes them.
        remedy: see :mod:`heatproof.repairs.remedies`.
        held_out: photos to judge by; ``None``: a share ``holdout`` of ``data`` is set aside.
        max_accuracy_drop: the budget: of the accuracy where photos have labels, else of what it is by the checkpoint's
            own probabilities.
        means: checkpoints, which make it resumable, scratch and progress.

    Raises:
        InputError: too few photos, or photos of which the model knows nothing; an explainer without derivative.
        ModelError: the remedy finds nothing to change in this model.
        LayerError: there is no such layer.

    >>> import heatproof as hp
    >>> from heatproof.data.scenes import scenes
    >>> from heatproof.repairs.remedies import Finetune
    >>> found = repair(hp.load("demo"), hp.GradCAM(), scenes(64, seed=0), Finetune(steps=1))
    >>> found.before.accuracy - found.after.accuracy <= 0.02 + 1e-3
    True
    """
    if not 0 <= max_accuracy_drop <= 1:
        raise InputError(f"max_accuracy_drop is a share, from 0 to 1, got {max_accuracy_drop}; one point is 0.01")
    if remedy.layer is not None:
        find_layer(model, remedy.layer)
    train, aside = photos(model, data, held_out, holdout, seed)
    if remedy.course.keep != "labels":
        train = replace(train, labels=torch.full_like(train.labels, UNLABELLED))
    heard = ask(model, explainer, remedy, train, aside, means, seed)
    pulled, mixed = train, None
    if heard.train is not None:
        said = chances(model, train)
        copied, heard = with_copies(model, remedy, train, said, heard, seed)
        pulled, heard, mixed = with_mosaics(remedy, train, said, copied, heard, seed)
    fed = Photos(train, pulled, aside, mixed)
    work = _Work(model, explainer, remedy, fed, max_accuracy_drop, seed, means, heard)
    tried = work.beginnings()
    best = tried[0] if len(tried) == 1 else work.better(tried)
    return work.finish(best)


def photos(
    model: nn.Module, data: object, held_out: object, holdout: float, seed: int
) -> tuple[TensorFeed, TensorFeed]:
    """Photos to train on and to judge by.

    Raises:
        InputError: too few of them, or too many to be held in memory.
    """
    settings = FineTune(holdout=holdout, seed=seed)
    data, held_out = part_photos(data, held_out, settings)
    size = image_size(model)
    fed = as_feed(data, size)
    if held_out is None:
        if not isinstance(fed, TensorFeed):
            raise InputError("held-out photos are needed to measure the accuracy: give held_out")
        _enough(len(fed))
        fed, aside = fed.split(holdout, seed)
    else:
        aside = as_feed(held_out, size)
        _enough(len(fed) + len(aside))
    if not isinstance(fed, TensorFeed) or not isinstance(aside, TensorFeed):
        raise InputError("the photos of a repair are held in memory, and these are too many; give fewer (--limit 2000)")
    return fed, aside


def _enough(count: int) -> None:
    if count < FEWEST_PHOTOS:
        raise InputError(
            f"a repair needs at least {FEWEST_PHOTOS} photos, of which some are set aside to judge by, got {count}; "
            "2,000 repair well, of 200 less comes (docs/methods/repair.md)"
        )


@dataclass(frozen=True)
class Heard:
    """What the checkpoint was asked.

    Attributes:
        train, aside: the witness of the photos to train on (where a remedy pulls to it) and of those to judge by.
        chances: probabilities of the latter, mean over several looks.
    """

    train: Witness | None
    aside: Witness
    chances: Float[Tensor, "photos classes"]


@dataclass(frozen=True)
class Photos:
    """What a repair is fed with.

    Attributes:
        own: the photos to train on.
        train: these, their moved copies, and mosaics of them.
        aside: the photos to judge by.
        mosaics: what is in the mosaics, by the checkpoint's probabilities; ``None``: there are none.
    """

    own: TensorFeed
    train: TensorFeed
    aside: TensorFeed
    mosaics: Float[Tensor, "mosaics classes"] | None


@dataclass(frozen=True)
class Attempt:
    """One training of one copy, ready to begin."""

    setup: Setup
    evaluation: RepairEvaluation
    before: Evaluated
    loop: TrainingLoop | None


@dataclass(frozen=True)
class _Work(Generic[M]):
    """One repair: the same photos and witness for whatever is tried."""

    model: M
    explainer: Explainer
    remedy: Remedy
    fed: Photos
    budget: float
    seed: int
    means: Means
    heard: Heard

    def beginnings(self) -> list[str | None]:
        """The layers to train from, among which a trial decides; ``None``: everything."""
        thirds = self.remedy.course.thirds
        if self.remedy.layer is not None or not thirds:
            return [self.remedy.layer]
        example = next(iter(self.fed.aside.ordered(1))).images.to(device_of(self.model))
        return [*beginnings(self.model, self.explainer, example, SHARES[:thirds])] or [None]

    def better(self, tried: Sequence[str | None]) -> str | None:
        """The one from which a short training comes closest to the witness inside the budget."""
        steps = trial_steps(self.remedy)
        scores = []
        for number, layer in enumerate(tried):
            attempt = self.attempt(layer, steps, evaluations=2)
            assert attempt.loop is not None
            attempt.loop.run(self.means.at(f"trial-{number}"), self.steps("trying"))
            scores.append(attempt.loop.state.key[0])
        return tried[scores.index(max(scores))]

    def steps(self, what: str) -> Steps:
        """Tells how many steps are done."""
        return Steps(lambda count, row: self.means.advance(what, count))

    def attempt(self, layer: str | None, steps: int, evaluations: int = EVALUATIONS, rate: float = 1.0) -> Attempt:
        """Copy, change and prepare to train."""
        course, seed = self.remedy.course, self.seed
        settings = FineTune(
            steps=max(1, steps),
            lr=rate * course.lr,
            weight=1.0,
            batch_size=BATCH,
            keep=course.keep,
            trainable=layer,
            max_accuracy_drop=self.budget,
            batch_norm=course.batch_norm,
            schedule="cosine",
            evaluate_every=max(1, steps // evaluations),
            patience=0,
            seed=seed,
        )
        further = views(self.fed.own, course.views, seed) if course.views else None
        processes = Processes.here(device_of(self.model))
        feeds = Feeds(self.fed.train, self.fed.aside, further)
        setup = set_up(self.model, self.explainer, feeds, settings, processes, self.means.scratch)
        size, scratch, fed = setup.batch_size, setup.scratch, setup.feeds
        clean = CleanModel(setup.clean, setup.explainer, setup.hardware, needs_logits=True)
        evaluation = RepairEvaluation(
            setup,
            held_out_outputs(clean, fed.held_out, "held-out", size, scratch),
            self.heard.aside,
            self.heard.chances,
        )
        before = evaluation.evaluate()
        self.remedy.begin(setup, self.fed.own, seed)
        if not steps:
            return Attempt(setup, evaluation, before, None)
        of_photos = reference(clean, fed.train, "train", steps * BATCH, size, scratch)
        of_views = reference(clean, fed.further, "views", steps * BATCH, size, scratch) if fed.further else None
        pulled = [Pulled(self.heard.train, course.pull)] if self.heard.train is not None else []
        mixed = self.fed.mosaics
        kept = function_term(settings) if mixed is None else KeptWithMosaics(len(self.fed.train) - len(mixed), mixed)
        terms: list[Term] = [*pulled, kept, *([OnViews()] if fed.further else [])]
        loss = Loss(terms, setup, of_photos, of_views, settings.batch_norm)
        about = f"{self.remedy!r} from {layer}, {settings!r} {self.explainer!r}"
        loop = TrainingLoop(settings, setup, loss, evaluation, processes, BATCH, about, before.accuracy)
        return Attempt(setup, evaluation, before, loop)

    def finish(self, layer: str | None) -> Repaired[M]:
        """Train from this layer on to the end, and hand out the best checkpoint inside the budget, if there is one.

        Where there is none, which is what few photos or large networks come to, again at lower rates.
        """
        found = None
        for name in RATES:
            found = self.finished(layer, name)
            if found.changed or not self.remedy.course.steps:
                break
        assert found is not None
        return found

    def finished(self, layer: str | None, name: str) -> Repaired[M]:
        """One training to the end, at its share of the remedy's learning rate."""
        rate = RATES[name]
        attempt = self.attempt(layer, self.remedy.course.steps, rate=rate)
        before, loop = attempt.before, attempt.loop
        if loop is None:
            history = History()
            found = attempt.evaluation.evaluate()
            inside = before.accuracy - found.accuracy <= self.budget + 1e-3 / len(self.fed.aside)
        else:
            history = loop.run(self.means.at(name), self.steps("training"))
            inside = any(row.get("inside") for row in history.looks)
            found = attempt.evaluation.evaluate()
        changed = inside and (loop is None or history.best > 0 or found != before)
        made = attempt.setup.handed_out(self.model) if changed else copy.deepcopy(self.model).eval()
        after = found if changed else before
        return Repaired(made, history, before, after, layer, changed, self.fed.aside, self.heard.aside)


def with_copies(
    model: nn.Module, remedy: Remedy, train: TensorFeed, said: Tensor, heard: Heard, seed: int
) -> tuple[TensorFeed, Heard]:
    """The photos and their moved copies, each with its witness; copies that the model calls otherwise are left out."""
    if heard.train is None or not remedy.course.copies:
        return train, heard
    copies, moves = moved(train, remedy.course.copies, seed)
    maps = moved_along(heard.train, moves, train.images.shape[2:])
    was = said.argmax(1).repeat(remedy.course.copies)
    same = (chances(model, copies).argmax(1) == was).nonzero()[:, 0]
    feed = TensorFeed(torch.cat([train.images, copies.images[same]]), torch.cat([train.labels, copies.labels[same]]))
    return feed, replace(heard, train=Witness(torch.cat([heard.train.maps, maps.at(same)])))


def with_mosaics(
    remedy: Remedy, photos: TensorFeed, said: Tensor, train: TensorFeed, heard: Heard, seed: int
) -> tuple[TensorFeed, Heard, Tensor | None]:
    """What is pulled, after it mosaics of the photos, pulled to the quarters of the class explained, and what they are.

    A lie about one of two classes shows where both are, which photos of one class do not tell; of a mosaic it is known
    where each class is. Its probabilities are held to be the mean of its photos'; ``None`` where there are none.
    """
    count = round(remedy.course.mosaics * len(train))
    if heard.train is None or not count:
        return train, heard, None
    made = mosaics(photos, said.argmax(1), count, seed)
    if made is None:
        return train, heard, None
    maps = torch.cat([heard.train.maps, F.interpolate(made.where.maps[:, None], heard.train.maps.shape[1:])[:, 0]])
    feed = TensorFeed(torch.cat([train.images, made.feed.images]), torch.cat([train.labels, made.feed.labels]))
    return feed, replace(heard, train=Witness(maps)), said[made.tiles].mean(1)


def chances(model: nn.Module, feed: TensorFeed) -> Float[Tensor, "photos classes"]:
    """The probabilities that the model gives to each photo."""
    place = device_of(model)
    with torch.no_grad(), evaluating(model):
        return torch.cat([model(fed.images.to(place)).softmax(1).cpu() for fed in feed.ordered(PART)])


def mean_chances(model: nn.Module, feed: TensorFeed, seed: int) -> Float[Tensor, "photos classes"]:
    """The same, mean over the photo and its moved copies: by one look alone networks are surer than they are right."""
    copies, _ = moved(feed, LOOKS - 1, seed)
    return torch.cat([chances(model, feed), chances(model, copies)]).unflatten(0, (LOOKS, len(feed))).mean(0)


def trial_steps(remedy: Remedy) -> int:
    """Of each trial, by which the layer is chosen to train from."""
    return max(1, round(TRIAL * remedy.course.steps))


def ask(
    model: nn.Module,
    explainer: Explainer,
    remedy: Remedy,
    train: TensorFeed,
    aside: TensorFeed,
    means: Means,
    seed: int = 0,
) -> Heard:
    """The checkpoint's own witness, and whether it has anything to say.

    Raises:
        InputError: the photos are not of the kind that the model knows.
    """
    place = device_of(model)
    # of differences between answers, over which a regression is taken, half of the digits are enough
    hardware = Hardware(str(place), "bf16" if computes_in_bf16(place) else "fp32")
    example = next(iter(aside.ordered(2))).images.to(place)
    rows, cols = without_relu(explainer)(model, example).heatmaps.shape[1:]

    def asked(feed: TensorFeed, name: str) -> Witness:
        return ask_witness(
            model, feed, (rows, cols), hardware, means.at(name), lambda count: means.advance("asking", count)
        )

    heard = asked(aside, "witness-held-out")
    check_hearing(heard, chances(model, aside).argmax(1), model.name if isinstance(model, Classifier) else "the model")
    pulled = asked(train, "witness") if remedy.course.pull else None
    return Heard(pulled, heard, mean_chances(model, aside, seed))
