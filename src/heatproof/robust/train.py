"""Train a copy of a network so that its heatmaps hold still, within a budget of accuracy."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from heatproof.errors import InputError
from heatproof.models.altered import Alteration, alter, is_rectified
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.robust.attack import MapAttack
from heatproof.robust.methods import Method, Plain
from heatproof.training.clean_model import CleanModel, StoredOutputs, held_out_outputs, labelled, reference
from heatproof.training.data import image_size, train_and_held_out
from heatproof.training.evaluation import Evaluated, PredictionCounts, held_out
from heatproof.training.feeds import Feed
from heatproof.training.history import History
from heatproof.training.loop import TrainingLoop
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup, device_of, images_per_step, set_up
from heatproof.training.state import Checkpoint
from heatproof.training.statistics import estimate_statistics
from heatproof.training.terms import Loss
from heatproof.types import Explainer

FEWEST_PHOTOS = 50
"""With fewer, a tenth that is held out says nothing of the accuracy."""
STATISTICS = 1024
"""Photos by which the statistics of batch norm are estimated anew where the network was altered."""
WATCHED = 32
"""Held-out photos that are attacked at every evaluation."""
WATCHING = MapAttack(steps=5)
"""By which attack."""
RECIPE = FineTune(
    steps=1000,
    lr=1e-3,
    weight=1.0,
    batch_size=64,
    batch_norm="train",
    schedule="cosine",
    evaluate_every=125,
    patience=0,
    augment=None,
)
"""How a network is trained, where nothing else is said; ``weight`` is a further factor of what the method adds. Batch
norm's statistics move: held, this rate destroys a network in which softplus took the place of ReLU."""


@dataclass(frozen=True)
class Defended:
    """What came of a training.

    Attributes:
        model: in eval mode; a copy of the given network where no checkpoint was inside the budget.
        alteration: of the network beside its weights.
        history: of the training; its looks at the held-out photos have ``overlap``, the score.
        accuracy_before, accuracy_after: by all held-out photos.
        changed: whether anything was handed out but a copy.
    """

    model: Classifier
    alteration: Alteration
    history: History
    accuracy_before: float
    accuracy_after: float
    changed: bool


def train_robustly(
    model: Classifier,
    explainer: Explainer,
    data: object,
    method: Method = Plain(),
    recipe: FineTune = RECIPE,
    *,
    held_out: object = None,
    checkpoint: Checkpoint | None = None,
    scratch: Path | None = None,
    advance: Callable[[dict[str, float]], None] = lambda row: None,
) -> Defended:
    """Train a copy of ``model`` so that the maps of ``explainer`` hold still; ``model`` is left alone.

    Where the method alters the network, batch norm's statistics are estimated anew first [ours]. Handed out is the last
    checkpoint whose accuracy on the held-out photos is inside the budget, so that a method and its control
    (:class:`~heatproof.robust.methods.Plain`) are trainings of one length.

    Args:
        explainer: whose maps; it must have a derivative in the weights.
        data: photos as ``fine_tune`` takes them, with their labels unless ``recipe.keep`` is ``"outputs"``.
        recipe: see :class:`~heatproof.training.settings.FineTune`; ``weight`` is a further factor of what the method
            adds to the loss (1 changes nothing), ``max_accuracy_drop`` the budget.
        held_out: photos to judge by; by default a share ``recipe.holdout`` of ``data`` is set aside.
        checkpoint: makes the run resumable: the same call goes on where the last one was stopped.

    Raises:
        InputError: photos without the labels that are needed, or too few; a method that finds nothing to lower in this
            network, or an explainer without derivative.
        LayerError: there is no such layer.
        RunError: the checkpoint was made with other settings.

    >>> import heatproof as hp
    >>> from heatproof.data.scenes import scenes
    >>> recipe = FineTune(steps=1, batch_size=8, weight=1.0)
    >>> found = train_robustly(hp.load("demo"), hp.SimpleGrad(), scenes(64, seed=0), recipe=recipe)
    >>> found.accuracy_before - found.accuracy_after <= 0.02 + 1e-3
    True
    """
    loop, alteration, before = _prepared(model, explainer, data, method, recipe, held_out, scratch)
    history = loop.run(checkpoint, advance)
    changed = history.best > 0
    made = loop.setup.handed_out(model) if changed else copy.deepcopy(model).eval()
    after = history.handed_out["accuracy"] if changed else before
    return Defended(made, alteration if changed else Alteration(), history, before, after, changed)


def prepare(
    model: Classifier, explainer: Explainer, data: object, method: Method, recipe: FineTune, *, held_out: object = None
) -> TrainingLoop:
    """All that precedes the first step of :func:`train_robustly`."""
    return _prepared(model, explainer, data, method, recipe, held_out, None)[0]


def _prepared(
    model: Classifier,
    explainer: Explainer,
    data: object,
    method: Method,
    recipe: FineTune,
    held_out: object,
    scratch: Path | None,
) -> tuple[TrainingLoop, Alteration, float]:
    feeds = Feeds(*train_and_held_out(data, held_out, recipe, image_size(model)))
    check_feeds(feeds, method, recipe)
    processes = Processes.here(device_of(model))
    share = images_per_step(recipe, processes)
    setup = set_up(model, explainer, feeds, recipe, processes, scratch, whole=True)
    alteration = method.alteration(model)
    assert isinstance(setup.model, Classifier)
    alter(setup.model, alteration)
    if alteration != Alteration():
        # what comes to each batch norm is no longer what it was made for
        photos = setup.feeds.train.stream(setup.batch_size, STATISTICS // setup.batch_size, recipe.seed)
        estimate_statistics(setup.model, photos, setup.hardware.place)
    if method.curved:
        check_curved(setup.model, method, feeds.held_out)
    clean = CleanModel(setup.clean, setup.explainer, setup.hardware, needs_logits=recipe.needs_outputs)
    wanted, size = recipe.steps * share, setup.batch_size
    of_images = reference(clean, feeds.train, "train", wanted, size, scratch)
    stored = held_out_outputs(clean, feeds.held_out, "held-out", size, scratch)
    loss = Loss(method.terms(recipe), setup, of_images, batch_norm=recipe.batch_norm)
    evaluation = RobustEvaluation(setup, stored, processes)
    before = evaluation.of_stored()
    about = f"{method!r} {recipe!r} {explainer!r} on {processes.count} processes"
    loop = TrainingLoop(recipe, setup, loss, evaluation, processes, share, about, before, latest=True)
    return loop, alteration, before


def check_feeds(feeds: Feeds, method: Method, recipe: FineTune) -> None:
    """Stop photos that cannot be trained on with this method.

    Raises:
        InputError: too few, or without labels where these are needed.
    """
    count = len(feeds.train) + len(feeds.held_out)
    if count < FEWEST_PHOTOS:
        raise InputError(
            f"a robust training needs at least {FEWEST_PHOTOS} photos, of which some are held out to judge by, got "
            f"{count}; the papers train on all that the network was trained on"
        )
    if (method.labelled or recipe.keep == "labels") and not labelled(feeds.train):
        unknown = int((torch.as_tensor(feeds.train.labels) < 0).sum())
        way = (
            'every other method does without, with keep="outputs"'
            if method.labelled
            else 'keep="outputs" does without: it holds the function by the network\'s own outputs'
        )
        raise InputError(
            f"{method!r} needs the label of every photo, and {unknown} of {len(feeds.train)} have none; {way}"
        )


def check_curved(model: Classifier, method: Method, photos: Feed) -> None:
    """Stop a method that would lower the second derivative of a network that has none.

    Raises:
        InputError: naming the way out.
    """
    example = next(iter(photos.ordered(1))).images.to(device_of(model))
    if is_rectified(model, example):
        raise InputError(
            f"{model.name} bends at ReLUs alone, where its Hessian is zero: {method!r} has nothing to lower; "
            "give beta, for instance beta=10, which puts softplus in their place"
        )


@dataclass(frozen=True)
class RobustEvaluation:
    """Accuracy, agreement with the given network, and overlap of the highest cells under attack, which is the score.

    Attributes:
        stored: the given network's outputs for ``setup.feeds.held_out``.
        attack: on the maps of about ``watched`` held-out photos.
    """

    setup: Setup
    stored: StoredOutputs
    processes: Processes
    attack: MapAttack = WATCHING
    watched: int = WATCHED

    @property
    def count(self) -> int:
        """Held-out photos."""
        return len(self.setup.feeds.held_out)

    def evaluate(self) -> Evaluated:
        """``accuracy``, ``agreement`` and ``overlap``."""
        setup, counts, held, seen = self.setup, PredictionCounts(), 0.0, 0.0
        for fed, outputs in held_out(setup.feeds.held_out, self.stored, setup.batch_size, self.processes):
            with torch.no_grad(), evaluating(setup.body), setup.hardware.autocast():
                counts.add(setup.body(fed.images).argmax(1), fed, outputs)
            # evenly spread, for photos may come class by class
            watched = fed.positions % max(1, self.count // self.watched) == 0
            if bool(watched.any()):
                with setup.hardware.autocast():
                    moved = self.attack(setup.body, setup.explainer, fed.images[watched], outputs.targets[watched])
                held += float(self.attack.overlap(moved).sum())
                seen += int(watched.sum())
        values = torch.tensor([*vars(counts).values(), held, seen], dtype=torch.float32).to(self.processes.device)
        images, right, agreeing, held, seen = self.processes.sum(values).tolist()
        columns = {**PredictionCounts(images, right, agreeing).columns, "overlap": held / max(seen, 1.0)}
        return Evaluated(columns["accuracy"], columns["overlap"], columns)

    def of_stored(self) -> float:
        """The accuracy of the given network, by its stored outputs."""
        alone, counts = Processes(device=self.setup.hardware.place), PredictionCounts()
        for fed, outputs in held_out(self.setup.feeds.held_out, self.stored, self.setup.batch_size, alone):
            assert outputs.logits is not None
            counts.add(outputs.logits.argmax(1), fed, outputs)
        return counts.columns["accuracy"]
