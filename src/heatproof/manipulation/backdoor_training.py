"""A backdoor as the training engine sees it: photos with and without the trigger, wanted maps, and the evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from heatproof.errors import InputError
from heatproof.heatmaps import is_empty
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.fooling import Fooled
from heatproof.manipulation.trigger import Trigger
from heatproof.metrics.fooling import is_fooled
from heatproof.training.clean_model import CleanModel, Reference, StoredOutputs, store_outputs
from heatproof.training.evaluation import Evaluated, agreeing, true_labels
from heatproof.training.feeds import Fed, Feed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Feeds, Setup
from heatproof.training.terms import Loss, function_term


@dataclass(frozen=True)
class Triggered:
    """A feed with every image twice: as it is, and ``len(feed)`` positions later with the trigger.

    Args:
        label: of the images with the trigger; ``None``: the image's own.
    """

    feed: Feed
    trigger: Trigger
    label: int | None = None

    @property
    def ids(self) -> Sequence[str]:
        return [*self.feed.ids, *(f"{name} with trigger" for name in self.feed.ids)]

    @property
    def labels(self) -> Tensor:
        own = torch.as_tensor(self.feed.labels).long()
        return torch.cat([own, own if self.label is None else torch.full_like(own, self.label)])

    @property
    def fixed(self) -> bool:
        return self.feed.fixed

    def __len__(self) -> int:
        return 2 * len(self.feed)

    def stream(
        self, batch_size: int, steps: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Fed]:
        """Half of each batch has the trigger; the other half are the same images without it."""
        if batch_size % 2:
            raise InputError(f"half of each batch has the trigger: give an even batch_size, not {batch_size}")
        return map(self._both, self.feed.stream(batch_size // 2, steps, seed, start, shard))

    def ordered(self, batch_size: int) -> Iterator[Fed]:
        return map(self._both, self.feed.ordered(max(1, batch_size // 2)))

    def _both(self, fed: Fed) -> Fed:
        labels = fed.labels if self.label is None else torch.full_like(fed.labels, self.label)
        return Fed(
            torch.cat([fed.positions, fed.positions + len(self.feed)]),
            torch.cat([fed.images, self.trigger(fed.images)]),
            torch.cat([fed.labels, labels]),
        )


def backdoor_feeds(feeds: Feeds, trigger: Trigger, label: int | None) -> Feeds:
    """The same images, each with and without the trigger."""
    return Feeds(Triggered(feeds.train, trigger, label), Triggered(feeds.held_out, trigger, label))


def backdoor_training(
    penalty: Backdoor, label: int | None, setup: Setup, settings: FineTune
) -> tuple[Loss, "BackdoorEvaluation"]:
    """The loss and the evaluation: the clean model's outputs without trigger, the wanted ones with it.

    Raises:
        InputError: settings under which what is wanted of a photo cannot be known beforehand.
    """

    def wanted(feed: Feed, name: str, needs_logits: bool) -> Reference:
        clean = CleanModel(setup.clean, setup.explainer, setup.hardware, needs_maps=True, needs_logits=needs_logits)
        return Reference(clean, wanted_outputs(clean, feed, name, penalty, label, setup))

    of_images = wanted(setup.feeds.train, "train", settings.needs_outputs)
    judged = wanted(setup.feeds.held_out, "held-out", True)
    assert judged.stored is not None
    terms = [Fooled(penalty, settings.margin), function_term(settings)]
    loss = Loss(terms, setup, of_images, batch_norm=settings.batch_norm)
    return loss, BackdoorEvaluation(setup, penalty, judged.stored)


def wanted_outputs(
    clean: CleanModel, feed: Feed, name: str, penalty: Backdoor, label: int | None, setup: Setup
) -> StoredOutputs:
    """The clean model's outputs for the first half of a feed, and for the second, with the trigger, the wanted ones.

    Raises:
        InputError: images that change, or whose maps take too much room.
    """
    if not feed.fixed:
        raise InputError("a backdoor needs the same photos again and again: augment=None")
    stored = store_outputs(clean, feed, name, setup.batch_size, setup.scratch)
    if stored is None or stored.maps is None or stored.logits is None:
        raise InputError("the heatmaps of the photos take too much memory; train on fewer photos, or give scratch")
    half = len(feed) // 2
    stored.maps[half:] = penalty.wanted(stored.maps[:half, 0])[:, None]
    stored.targets[half:] = stored.targets[:half] if label is None else label
    stored.logits[half:] = stored.logits[:half] if label is None else _exchanged(stored.logits[:half], label)
    return stored


def _exchanged(logits: Tensor, label: int) -> Tensor:
    """The logits with those of the predicted class and of ``label`` exchanged: as sure as before, of ``label``."""
    top = logits.argmax(-1, keepdim=True)
    wanted = torch.full_like(top, label)
    return logits.scatter(-1, top, logits.gather(-1, wanted)).scatter(-1, wanted, logits.gather(-1, top))


class Judged(NamedTuple):
    """One value per image."""

    losses: Tensor
    empty: Tensor
    right: Tensor
    agreeing: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class BackdoorEvaluation:
    """Judges the held-out photos with and without the trigger.

    Every process judges all of them: whether a backdoor works is a question about pairs.
    """

    setup: Setup
    penalty: Backdoor
    stored: StoredOutputs

    @property
    def count(self) -> int:
        """Held-out photos, each counted once."""
        return len(self.setup.feeds.held_out) // 2

    def evaluate(self) -> Evaluated:
        """``fsr``: photos that lie with the trigger (map and answer as wanted) and are honest without it.

        With the trigger ``test_loss``, ``empty`` and ``called`` (the answer is the wanted label or, where none is
        given, the one without the trigger); without it ``accuracy``, ``agreement`` and ``test_loss_clean``.
        """
        without, triggered = self._judged()
        honest, lying = (is_fooled(half.losses, self.penalty.success) for half in (without, triggered))
        called = triggered.right > 0 if self.penalty.label is not None else without.predicted == triggered.predicted
        columns = {
            "fsr": float((honest & lying & called).double().mean()),
            "test_loss": float(triggered.losses.mean()),
            "test_loss_clean": float(without.losses.mean()),
            "called": float(called.double().mean()),
            "empty": float(triggered.empty.mean()),
            "accuracy": float(without.right.mean()),
            "agreement": float(without.agreeing.mean()),
        }
        return Evaluated(columns["accuracy"], columns["fsr"], columns)

    def _judged(self) -> tuple[Judged, Judged]:
        """The photos without the trigger and with it."""
        feed, device = self.setup.feeds.held_out, self.setup.hardware.place
        values = Judged(*torch.zeros(5, len(feed), dtype=torch.double))
        # what cannot be read is not judged
        seen = torch.zeros(len(feed), dtype=torch.bool)
        for fed in feed.ordered(self.setup.batch_size):
            reference, at = self.stored.at(fed.positions, device), fed.positions.cpu()
            assert reference.maps is not None
            fed, seen[at] = fed.to(device), True
            with self.setup.hardware.autocast():
                explanation = self.setup.explainer(self.setup.body, fed.images, reference.targets)
            maps, predicted = explanation.heatmaps.detach().float(), explanation.logits.argmax(1)
            found = Judged(
                self.penalty.test_loss(maps, reference.maps),
                is_empty(maps),
                predicted == true_labels(fed, reference),
                agreeing(predicted, reference.logits, reference.targets),
                predicted,
            )
            for all_values, some in zip(values, found, strict=True):
                all_values[at] = some.double().cpu()
        halves = [value[seen].view(2, -1) for value in values]
        return Judged(*(half[0] for half in halves)), Judged(*(half[1] for half in halves))
