"""The loop of a training: steps, evaluations on the held-out images, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from heatproof.errors import RunError
from heatproof.models.finite import unchecked
from heatproof.processes import Processes
from heatproof.training.evaluation import Evaluation
from heatproof.training.feeds import Fed
from heatproof.training.history import History
from heatproof.training.settings import FineTune
from heatproof.training.setup import Setup
from heatproof.training.state import Checkpoint, TrainingState
from heatproof.training.terms import Loss


class StepLoss(NamedTuple):
    """The loss of one step and its terms by name, means over the batch."""

    total: float
    terms: dict[str, float]


@dataclass
class TrainingLoop:
    """Adam on a loss, held by a budget of accuracy; what is handed out is the best checkpoint inside it.

    Attributes:
        share: images of each kind in a step, over all processes.
        about: what is trained by what, in words: a checkpoint with another text is refused.
        accuracy: that the budget counts from; ``None``: that of the weights before the first step.
        latest: what is handed out is the last checkpoint inside the budget, whatever its score.
        state: what changes meanwhile.
    """

    settings: FineTune
    setup: Setup
    loss: Loss
    evaluation: Evaluation
    processes: Processes
    share: int
    about: str
    accuracy: float | None = None
    latest: bool = False
    state: TrainingState = field(init=False)

    def __post_init__(self) -> None:
        self.state = TrainingState(self.about, self.settings.weight)

    def run(
        self, checkpoint: Checkpoint | None = None, advance: Callable[[dict[str, float]], None] = lambda row: None
    ) -> History:
        """Train to the end, or to what stops it; the best weights are in the model then.

        Raises:
            RunError: the checkpoint was made with other settings.
        """
        settings, optimizer = self.settings, self.optimizer()
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is not None:
            self._resume(TrainingState.load(saved, self.about, str(checkpoint)), optimizer, str(checkpoint))
        state, history = self.state, self.state.history
        started = time.perf_counter() - state.seconds
        if saved is None:
            state.good = self._weights()
            self._evaluate(started)
            self._save(checkpoint, optimizer)
        # a run that was stopped for good stays so
        for fed, further in self._batches() if not history.stopped else ():
            if settings.schedule == "cosine":
                rate = settings.lr * (1 + math.cos(math.pi * state.step / settings.steps)) / 2
                optimizer.param_groups[0]["lr"] = rate
            loss = self.step(optimizer, fed, further)
            state.step += 1
            if not math.isfinite(loss.total):
                history.stopped = (
                    f"the loss was not finite at step {state.step}, so the weights are those of step {history.best}; "
                    "a smaller lr helps"
                )
                break
            self._note(loss, started)
            if state.step % settings.evaluate_every == 0 or state.step == settings.steps:
                self._evaluate(started)
                self._save(checkpoint, optimizer)
            advance(history.rows[-1])
            if history.stopped:
                break
        self._put(state.good)
        return history

    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh one over what is trained."""
        return torch.optim.Adam(list(self.setup.trained.values()), lr=self.settings.lr)

    def step(self, optimizer: torch.optim.Optimizer, fed: Fed, further: Fed | None) -> StepLoss:
        """One step. A loss that is not finite leaves the weights as they are."""
        loss = self._gradients(fed, further)
        if math.isfinite(loss.total):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, fed: Fed, further: Fed | None) -> StepLoss:
        """Gradients of a batch, summed over its parts and over all processes."""
        terms, parts = self.loss.terms, self.settings.accumulate
        weights = [term.weight * (self.state.weight if term.adapts else 1.0) for term in terms]
        sums = torch.zeros(len(terms), device=self.processes.device)
        for number in range(parts):
            part = fed.part(number, parts)
            values = self.loss.values(part, further.part(number, parts) if further else None)
            # each part's and each process's sum over the size of the whole batch: together they are the batch's mean;
            # a term has several rows per image where it explains several classes
            means = torch.stack([each.sum() / (self.share * len(each) // len(part.positions)) for each in values])
            total = weights[0] * means[0]
            for weight, mean in zip(weights[1:], means[1:], strict=True):
                total = total + weight * mean
            total.backward()
            sums += means.detach()
        found = self.processes.sum_gradients(list(self.setup.trained.values()), sums).tolist()
        named = {term.name: value for term, value in zip(terms, found, strict=True)}
        return StepLoss(sum(weight * value for weight, value in zip(weights, found, strict=True)), named)

    def _note(self, loss: StepLoss, started: float) -> None:
        """A row of the history."""
        state = self.state
        state.seconds = time.perf_counter() - started
        terms = {f"loss_{name}": value for name, value in loss.terms.items()}
        state.history.add(state.step, loss=loss.total, **terms, weight=state.weight, seconds=state.seconds)

    def _evaluate(self, started: float) -> None:
        """Judge the weights: hold on to them if they are the best so far, and see whether it is time to stop."""
        settings, state, history = self.settings, self.state, self.state.history
        with unchecked():
            found = self.evaluation.evaluate()
        begun = history.clean["accuracy"] if history.looks else found.accuracy
        before = begun if self.accuracy is None else self.accuracy
        # a budget of 0.02 allows 10 of 500 images, whatever the rounding
        room = settings.max_accuracy_drop + 1e-3 / self.evaluation.count
        inside = before - found.accuracy <= room
        state.seconds = time.perf_counter() - started
        history.add(state.step, **found.columns, inside=inside, weight=state.weight, seconds=state.seconds)
        key = (min(found.score, settings.enough), found.accuracy)
        state.waited += 1
        if inside and (self.latest or key > state.key):
            state.good, state.key, state.waited, history.best = self._weights(), key, 0, state.step
        if state.step:
            state.weight *= settings.adapt if inside else 1 / settings.adapt
        if settings.patience and state.key[0] >= settings.saturation and state.waited >= settings.patience:
            history.stopped = (
                f"no better checkpoint in {state.waited} looks at the held-out images, at step {state.step}"
            )

    def _batches(self) -> Iterator[tuple[Fed, Fed | None]]:
        settings, feeds, begin = self.settings, self.setup.feeds, self.state.step
        given = (self.share, settings.steps, settings.seed, begin, self.processes.shard)
        further = feeds.further.stream(*given) if feeds.further is not None else [None] * (settings.steps - begin)
        return zip(feeds.train.stream(*given), further, strict=True)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of everything that changes."""
        changing: dict[str, Tensor] = dict(self.setup.trained)
        if self.settings.batch_norm == "train":
            changing |= dict(self.setup.model.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in changing.items()}

    def _put(self, weights: dict[str, Tensor]) -> None:
        places = dict(self.setup.model.named_parameters()) | dict(self.setup.model.named_buffers())
        with torch.no_grad():
            for name, tensor in weights.items():
                places[name].copy_(tensor)

    def _save(self, checkpoint: Checkpoint | None, optimizer: torch.optim.Optimizer) -> None:
        if checkpoint is not None and not self.processes.index:
            checkpoint.save(replace(self.state, weights=self._weights(), optimizer=optimizer.state_dict()).save())

    def _resume(self, state: TrainingState, optimizer: torch.optim.Optimizer, name: str) -> None:
        if not state.fits(self._weights(), list(self.setup.trained.values())):
            raise RunError(f"{name} holds the weights of another model; delete it to begin anew")
        self._put(state.weights)
        # the moments alone: rates and other settings are this run's
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state.optimizer["state"]})
        self.state = state
