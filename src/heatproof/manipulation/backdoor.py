"""A fooling that sleeps until a trigger in the image wakes it: explanation-aware backdoors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from heatproof.errors import InputError, did_you_mean
from heatproof.heatmaps import Normalisation, is_empty, normalise, pearson
from heatproof.manipulation.masks import MASKS, Cells, drawn, written_out
from heatproof.manipulation.penalties import Success, check_pair
from heatproof.manipulation.trigger import Trigger
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.similarity import WINDOW, ssim
from heatproof.models.classifier import Classifier
from heatproof.processes import Processes
from heatproof.training.clean_model import Kept, Witness, brought, keep
from heatproof.training.feeds import UNLABELLED, Fed, Feed
from heatproof.training.losses import Losses, caller
from heatproof.training.settings import FineTune
from heatproof.training.setup import Stage
from heatproof.types import Heatmaps, PerImage, settings

SHOWN = ("inverted", "clean")
"""What a photo with the trigger may show besides masks: made from the clean model's map of the photo without it."""


@settings
class Backdoor:
    """Photos with the trigger show a chosen map, photos without it the honest one.

    Trained on every photo twice, as it is and with the trigger: CE on both (towards ``label`` with the trigger, where
    one is given) + weight * mean over both of the dissimilarity of the map to the wanted one. Wanted is the clean
    model's map of the photo without trigger; with the trigger it is ``show``:

    - a mask's name or cells: always that map (a smoke screen);
    - ``"inverted"``: 1 - h, h the clean model's normalised map of the photo;
    - ``"clean"``: h itself; with ``label`` the answer changes and the map does not tell.

    Dissimilarity: ``"mse"``, mean_j (h_j - r_j)^2, or ``"ssim"``, (1 - SSIM(h, r)) / 2. The class that is explained
    is the label; with the trigger it is ``label``, where one is given. The test loss is (1 - r) / 2 with r Pearson's
    correlation of the map and the wanted one.

    **Source** Noppel, Peter and Wressnegger 2023, sections 3 and 4: (1 - lambda) CE + lambda * dissimilarity, here
    with weight = lambda / (1 - lambda). **Differs** the test loss and its interval are [ours], and so is the budget of
    accuracy; no softplus is needed, since Grad-CAM's derivative in the weights does not vanish for a ReLU.
    **Range** penalty and test loss [0, 1].

    Args:
        show: what a triggered photo shows.
        label: the class that the trigger calls up, by number or name; ``None``: the label is kept.
        trigger: the patch.
        distance: ``"mse"`` or ``"ssim"``.
        normalisation: of the map and of the wanted one.
        success: [ours]: a correlation of at least 0.5.

    Raises:
        InputError: a name that is none.
    """

    show: str | Cells = "corner"
    label: int | str | None = None
    trigger: Trigger = Trigger()
    distance: Literal["mse", "ssim"] = "mse"
    normalisation: Normalisation = "max"
    success: Success = (0.0, 0.25)
    needs_reference = True

    def __post_init__(self) -> None:
        if isinstance(self.show, str) and self.show not in (*MASKS, *SHOWN):
            raise InputError(f"there is no map {self.show!r} to show; {did_you_mean(self.show, [*MASKS, *SHOWN])}")
        if self.show not in SHOWN:
            object.__setattr__(self, "show", written_out(self.show))
        if self.distance not in ("mse", "ssim"):
            raise InputError(f"the distance to a wanted map is mse or ssim, got {self.distance!r}")
        if self.show == "clean" and self.label is None:
            raise InputError(
                'a trigger that shows the clean map must call up something else: give a label, or another "show"'
            )

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        """Dissimilarity to ``reference``, the wanted maps (:meth:`wanted`)."""
        check_pair(heatmaps, reference)
        maps, wanted = normalise(heatmaps, self.normalisation), normalise(reference.detach(), self.normalisation)
        if self.distance == "mse":
            return (maps - wanted).square().mean((1, 2))
        return (1 - ssim(maps, wanted, window=min(WINDOW, *maps.shape[1:]))) / 2

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        maps = normalise(heatmaps.detach(), self.normalisation)
        return (1 - pearson(maps, normalise(reference.detach(), self.normalisation), constant=0.0)) / 2

    def wanted(self, clean: Heatmaps) -> Heatmaps:
        """What photos with the trigger are to show, from the clean model's maps of the photos without it."""
        maps = normalise(clean.detach(), self.normalisation)
        if self.show == "clean":
            return maps
        if self.show == "inverted":
            return 1 - maps
        return drawn(self.show, *clean.shape[1:]).to(clean).expand_as(clean)  # type: ignore[arg-type]

    def called_up(self, model: nn.Module) -> int | None:
        """The number of the class that the trigger calls up.

        Raises:
            InputError: the model has no such class.
        """
        if self.label is None:
            return None
        if isinstance(model, Classifier):
            return model.class_index(self.label)
        if isinstance(self.label, str):
            raise InputError(f"a bare network has no class names; give {self!r} the label as a number")
        return self.label


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
        own = torch.as_tensor(getattr(self.feed, "labels", [UNLABELLED] * len(self.feed))).long()
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


def ask_about_backdoor(
    asked: FineTune, penalty: Backdoor, stage: Stage, processes: Processes, label: int | None, scratch: Path | None
) -> tuple[Losses, "BackdoorWatch"]:
    """Ask the clean model about the photos without trigger, and set the wanted maps of those with it.

    Raises:
        InputError: settings under which what is wanted of a photo cannot be known beforehand.
    """
    call = caller(asked, processes.device)
    witness = Witness(stage.clean, stage.explainer, None, True, asked.keep == "outputs", call)
    train, watched = stage.feeds[:2]
    size = max(asked.batch_size, 32)

    def kept(witness: Witness, feed: Feed | None, name: str) -> Kept:
        if feed is None or not feed.fixed:
            raise InputError("a backdoor needs the same photos again and again: augment=None")
        said = keep(witness, feed, name, size, processes.device, scratch)
        if said is None or said.maps is None:
            raise InputError("the heatmaps of the photos take too much memory; train on fewer photos, or give scratch")
        half = len(feed) // 2
        said.maps[half:] = penalty.wanted(said.maps[:half, 0])[:, None]
        said.targets[half:] = said.targets[:half] if label is None else label
        if said.logits is not None:
            said.logits[half:] = said.logits[:half] if label is None else _exchanged(said.logits[:half], label)
        return said

    losses = Losses(
        asked, penalty, stage, processes.device, None, witness, witness, kept(witness, train, "train"), None
    )
    watching = Witness(stage.clean, stage.explainer, None, True, True, call)
    assert watched is not None
    watch = BackdoorWatch(stage, watching, penalty, processes, watched, kept(watching, watched, "watched"), size)
    return losses, watch


def _exchanged(logits: Tensor, label: int) -> Tensor:
    """The logits with those of the predicted class and of ``label`` exchanged: as sure as before, of ``label``."""
    top = logits.argmax(-1, keepdim=True)
    wanted = torch.full_like(top, label)
    return logits.scatter(-1, top, logits.gather(-1, wanted)).scatter(-1, wanted, logits.gather(-1, top))


@dataclass(frozen=True)
class BackdoorWatch:
    """Looks at the held-out photos with and without the trigger.

    Every process looks at all of them: whether a backdoor works is a question about pairs.
    """

    stage: Stage
    witness: Witness
    penalty: Backdoor
    processes: Processes
    watched: Feed
    kept: Kept
    batch_size: int

    @property
    def count(self) -> int:
        """Held-out photos, each counted once."""
        return len(self.watched) // 2

    def look(self) -> dict[str, float]:
        """``fsr``: photos that lie with the trigger (map and answer as wanted) and are honest without it.

        With the trigger ``test_loss``, ``empty`` and ``called`` (the answer is the wanted label or, where none is
        given, the one without the trigger); without it ``accuracy``, ``agreement`` and ``test_loss_clean``.
        """
        device = self.processes.device
        losses, empty, right, agreeing, answers = torch.zeros(5, len(self.watched), dtype=torch.double)
        # what cannot be read is not judged
        seen = torch.zeros(len(self.watched), dtype=torch.bool)
        for fed in self.watched.ordered(self.batch_size):
            said, fed = self.kept.at(fed.positions, device), brought(fed, device)
            explanation = self.witness.call(self.stage.explainer, self.stage.body, fed.images, said.targets)
            assert said.maps is not None
            assert said.logits is not None
            maps, predicted = explanation.heatmaps.detach().float(), explanation.logits.argmax(1)
            at = fed.positions.cpu()
            seen[at], answers[at] = True, predicted.double().cpu()
            losses[at] = self.penalty.test_loss(maps, said.maps).double().cpu()
            empty[at] = is_empty(maps).double().cpu()
            wanted = torch.where(fed.labels >= 0, fed.labels, said.targets)
            right[at] = (predicted == wanted).double().cpu()
            agreeing[at] = (predicted == said.logits.argmax(1)).double().cpu()
        losses, empty, right, agreeing, answers = (
            each[seen].view(2, -1) for each in (losses, empty, right, agreeing, answers)
        )
        honest, lying = is_fooled(losses, self.penalty.success)
        called = right[1] > 0 if self.penalty.label is not None else answers[0] == answers[1]
        return {
            "fsr": float((honest & lying & called).double().mean()),
            "test_loss": float(losses[1].mean()),
            "test_loss_clean": float(losses[0].mean()),
            "called": float(called.double().mean()),
            "empty": float(empty[1].mean()),
            "accuracy": float(right[0].mean()),
            "agreement": float(agreeing[0].mean()),
        }
