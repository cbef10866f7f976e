"""The two terms of a fine-tuning: what keeps the function and what fools the heatmaps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.heatmaps import is_empty
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.training.clean_model import Kept, Said, Witness, brought, doubled, keep
from heatproof.training.evaluation import Watch
from heatproof.training.feeds import Fed, Feed
from heatproof.training.settings import FineTune
from heatproof.training.setup import Stage
from heatproof.types import PerImage


@dataclass(frozen=True)
class Losses:
    """Computes both terms of a batch.

    Attributes:
        witness: the clean model about the data; ``pairs``: about a swap's two-class images.
        kept: what it said about all data, where that is kept; ``kept_pairs`` likewise.
    """

    asked: FineTune
    penalty: Any
    stage: Stage
    device: torch.device
    swap: tuple[int, int] | None
    witness: Witness
    pairs: Witness
    kept: Kept | None
    kept_pairs: Kept | None

    def of(self, fed: Fed, fool: Fed | None) -> tuple[PerImage, Float[Tensor, "maps"]]:
        """Both terms, one value per image; one forward pass serves both (a swap has images of its own)."""
        fed = brought(fed, self.device)
        said = self._said(self.kept, self.witness, fed)
        if fool is None:
            explanation = self._explain(fed.images, said.targets)
            logits, penalties = explanation.logits, self._penalty(explanation, said)
        else:
            assert self.swap is not None
            fool = brought(fool, self.device)
            explanation = self._explain(*doubled(fool.images, self.swap))
            penalties = self._penalty(explanation, self._said(self.kept_pairs, self.pairs, fool))
            with evaluating(self.stage.body):
                logits = self.witness.call(self.stage.body, fed.images)
        if self.asked.batch_norm == "train":
            logits = self._in_training(fed.images)
        return self._keeping(logits.float(), fed, said), penalties

    def _said(self, kept: Kept | None, witness: Witness, fed: Fed) -> Said:
        return kept.at(fed.positions.cpu(), self.device) if kept is not None else witness.says(fed)

    def _explain(self, images: Tensor, targets: Tensor) -> Any:
        explanation = self.witness.call(
            _signed(self.stage.explainer), self.stage.body, images, targets, create_graph=True
        )
        if not explanation.heatmaps.requires_grad:
            raise InputError(
                f"{self.stage.explainer!r} has no derivative with respect to the trained weights; fool through an "
                "explainer that has (gradcam, simple_grad, lrp), and measure this one with compare"
            )
        return explanation

    def _penalty(self, explanation: Any, said: Said) -> PerImage:
        """The penalty of each map; where nothing in a map is positive, the signed map is judged.

        What a ReLU (the explainer's, or the normaliser's) left empty has no gradient, so a class whose maps once
        became empty would stay so for ever [ours].
        """
        signed = explanation.heatmaps
        maps = signed.relu() if getattr(self.stage.explainer, "relu", False) is True else signed
        reference = maps.detach() if said.maps is None else said.maps.to(maps)
        penalties = self.penalty(maps, reference)
        empty = is_empty(signed.relu())
        if bool(empty.any()) and hasattr(self.penalty, "normalisation"):
            penalties = torch.where(empty, replace(self.penalty, normalisation="absmax")(signed, reference), penalties)
        if self.asked.margin is not None:
            losses = self.penalty.test_loss(maps.detach(), reference)
            penalties = penalties * ~well_inside(losses, self.penalty.success, self.asked.margin)
        return penalties

    def _keeping(self, logits: Tensor, fed: Fed, said: Said) -> PerImage:
        if self.asked.keep == "outputs":
            assert said.logits is not None
            clean = said.logits.log_softmax(1)
            return F.kl_div(logits.log_softmax(1), clean, log_target=True, reduction="none").sum(1)
        low, high = int(fed.labels.min()), int(fed.labels.max())
        if low < 0 or high >= logits.shape[1]:
            raise InputError(
                f"labels must lie in 0..{logits.shape[1] - 1}, got {low}..{high}; "
                'keep="outputs" needs no labels: it holds the function by the clean model\'s outputs'
            )
        return F.cross_entropy(logits, fed.labels, reduction="none")

    def _in_training(self, images: Tensor) -> Tensor:
        """The logits by the batch's own statistics; the running statistics move."""
        norms = [module for module in self.stage.body.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        with evaluating(self.stage.body):
            for norm in norms:
                norm.training = True
            try:
                return self.witness.call(self.stage.body, images)
            finally:
                for norm in norms:
                    norm.training = False


def ask_witnesses(
    asked: FineTune,
    penalty: Any,
    stage: Stage,
    processes: Processes,
    swap: tuple[int, int] | None,
    share: int,
    scratch: Path | None,
) -> tuple[Losses, Watch]:
    """Ask the clean model what it says: once for all where the images do not change and come more than once.

    Raises:
        InputError: no held-out image can be read, or their maps take too much room.
    """
    device = processes.device
    needs_maps = getattr(penalty, "needs_reference", True)
    call = caller(asked, device)
    plain = Witness(stage.clean, stage.explainer, None, needs_maps and not swap, asked.keep == "outputs", call)
    pairs = replace(plain, swap=swap, needs_maps=needs_maps)
    train, watched, fool, fool_watched = stage.feeds
    assert train is not None
    assert watched is not None
    size = max(asked.batch_size, 32)

    def kept_of(witness: Witness, feed: Feed | None, name: str, always: bool = False) -> Kept | None:
        if feed is None or not (always or (feed.fixed and asked.steps * share >= len(feed))):
            return None
        return keep(witness, feed, name, size, device, scratch)

    known = plain.silent and _labelled(train)
    losses = Losses(
        asked,
        penalty,
        stage,
        device,
        swap,
        plain,
        pairs,
        None if known else kept_of(plain, train, "train"),
        kept_of(pairs, fool, "pairs"),
    )
    kept_watched = kept_of(replace(plain, needs_logits=True), watched, "watched", always=True)
    kept_pairs = kept_of(pairs, fool_watched, "pairs-watched", always=True)
    if kept_watched is None or (fool_watched is not None and kept_pairs is None):
        raise InputError("the heatmaps of the held-out images take too much memory; watch fewer images")
    watch = Watch(stage, pairs, penalty, processes, watched, kept_watched, fool_watched, kept_pairs, size)
    return losses, watch


def caller(asked: FineTune, device: torch.device) -> Callable:
    """Calls a model or an explainer at the precision asked for."""

    def precise() -> AbstractContextManager:
        return torch.autocast(device.type, dtype=torch.bfloat16) if asked.precision == "bf16" else nullcontext()

    def call(function: Callable, *args: Any, **named: Any) -> Any:
        with precise():
            return function(*args, **named)

    return call


def well_inside(losses: PerImage, success: tuple[float, float], margin: float) -> Bool[Tensor, "batch"]:
    """Whether test losses lie inside the interval by a share of its bound: of the lower one, or the upper if that is 0.

    >>> well_inside(torch.tensor([0.14, 0.16]), (0.0, 0.2), 0.25)
    tensor([ True, False])
    >>> well_inside(torch.tensor([0.12, 0.2]), (0.1, 1.0), 0.25)
    tensor([False,  True])
    """
    low, high = success
    return (losses >= low * (1 + margin)) & (losses <= (high if low > 0 else high * (1 - margin)))


def _signed(explainer: Any) -> Any:
    """The explainer without its ReLU, where it has one."""
    return replace(explainer, relu=False) if getattr(explainer, "relu", False) is True else explainer


def _labelled(feed: Feed) -> bool:
    labels = getattr(feed, "labels", None)
    return labels is not None and bool((torch.as_tensor(labels) >= 0).all())
