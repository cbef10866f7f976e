"""The loop of a fine-tuning: steps, looks at the held-out images, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from heatproof.errors import RunError
from heatproof.manipulation.backdoor import BackdoorWatch
from heatproof.processes import Processes
from heatproof.tensor_files import is_finite, why_not_plain
from heatproof.training.evaluation import Watch
from heatproof.training.feeds import Fed
from heatproof.training.history import History
from heatproof.training.losses import Losses
from heatproof.training.settings import FineTune
from heatproof.training.setup import Stage


class Checkpoint(Protocol):
    """Where a fine-tuning is kept while it lasts: tensors, numbers and texts in a dict."""

    def load(self) -> dict[str, Any] | None: ...
    def save(self, state: dict[str, Any]) -> None: ...


STATE: dict[str, Any] = {
    "spec": str,
    "step": int,
    "weights": dict,
    "good": dict,
    "optimizer": dict,
    "rows": list,
    "best": int,
    "stopped": str,
    "key": list,
    "waited": int,
    "weight": float | int,
    "seconds": float | int,
}
"""What a checkpoint holds, and of which type."""


@dataclass
class Tuning:
    """One fine-tuning while it lasts.

    Attributes:
        spec: all that the weights depend on, but for the data; a checkpoint with another one is refused.
        share: images of each kind in a step, over all processes.
        good: the weights to hand out: the best look inside the budget.
        key: the fooling rate and the accuracy of that look.
        waited: looks since then.
        weight: of the penalty, now.
    """

    asked: FineTune
    stage: Stage
    losses: Losses
    watch: Watch | BackdoorWatch
    processes: Processes
    share: int
    spec: str
    history: History = field(default_factory=History)
    good: dict[str, Tensor] = field(default_factory=dict)
    key: tuple[float, float] = (-1.0, -1.0)
    waited: int = 0
    weight: float = 0.0
    seconds: float = 0.0

    def run(self, checkpoint: Checkpoint | None, advance: Callable[[dict[str, Any]], None]) -> History:
        """Train to the end, or to what stops it; the best weights are in the model then.

        Raises:
            RunError: the checkpoint was made with other settings.
        """
        asked, history = self.asked, self.history
        optimizer = self.optimizer()
        state = checkpoint.load() if checkpoint is not None else None
        begin = self._resume(state, optimizer) if state is not None else 0
        started = time.perf_counter() - self.seconds
        if state is None:
            self.good, self.weight = self._weights(), asked.weight
            self._look(0, started)
            self._save(checkpoint, 0, optimizer)
        # a run that was stopped for good stays so
        for step, batch, fool in self._batches(begin) if not history.stopped else ():
            if asked.schedule == "cosine":
                optimizer.param_groups[0]["lr"] = asked.lr * (1 + math.cos(math.pi * step / asked.steps)) / 2
            loss, kept, fooled = self.step(optimizer, batch, fool)
            if not math.isfinite(loss):
                history.stopped = (
                    f"the loss was not finite at step {step + 1}, so the weights are those of step {history.best}; "
                    "a smaller lr helps"
                )
                break
            done = step + 1
            self.seconds = time.perf_counter() - started
            history.add(done, loss=loss, loss_kept=kept, loss_fooled=fooled, weight=self.weight, seconds=self.seconds)
            if done % asked.evaluate_every == 0 or done == asked.steps:
                self._look(done, started)
                self._save(checkpoint, done, optimizer)
            advance(history.rows[-1])
            if history.stopped:
                break
        self._put(self.good)
        return history

    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh one over what is trained."""
        return torch.optim.Adam(list(self.stage.trained.values()), lr=self.asked.lr)

    def step(self, optimizer: torch.optim.Optimizer, batch: Fed, fool: Fed | None) -> tuple[float, float, float]:
        """One step; the loss and its two terms. A loss that is not finite leaves the weights as they are."""
        loss, kept, fooled = self._gradients(batch, fool)
        if math.isfinite(loss):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss, kept, fooled

    def _gradients(self, batch: Fed, fool: Fed | None) -> tuple[float, float, float]:
        """Gradients of a batch, summed over its parts and over all processes; the loss and its two terms."""
        sums = torch.zeros(2, device=self.processes.device)
        parts = self.asked.accumulate
        for part in range(parts):
            keeping, penalties = self.losses.of(_part(batch, part, parts), _part(fool, part, parts) if fool else None)
            # each part's and each process's sum over the size of the whole batch: together they are the batch's mean;
            # a swap has two penalties per image
            rows = self.share * (2 if fool else 1)
            terms = torch.stack([keeping.sum() / self.share, penalties.sum() / rows])
            (terms[0] + self.weight * terms[1]).backward()
            sums += terms.detach()
        kept, fooled = self.processes.sum_gradients(list(self.stage.trained.values()), sums).tolist()
        return kept + self.weight * fooled, kept, fooled

    def _look(self, step: int, started: float) -> None:
        """Judge the weights: keep them if they are the best so far, and say when it is time to stop."""
        asked, history = self.asked, self.history
        seen = self.watch.look()
        before = history.clean if history.looks else seen
        # a budget of 0.02 allows 10 of 500 images, whatever the rounding
        room = asked.max_accuracy_drop + 1e-3 / self.watch.count
        inside = before["accuracy"] - seen["accuracy"] <= room
        self.seconds = time.perf_counter() - started
        history.add(step, **seen, inside=inside, weight=self.weight, seconds=self.seconds)
        # of a swap the class that is fooled less counts
        key = (min(seen.get("fsr_first", 1.0), seen.get("fsr_second", 1.0), seen["fsr"]), seen["accuracy"])
        self.waited += 1
        if inside and key > self.key:
            self.good, self.key, self.waited, history.best = self._weights(), key, 0, step
        if step:
            self.weight *= asked.adapt if inside else 1 / asked.adapt
        if asked.patience and self.key[0] >= asked.saturation and self.waited >= asked.patience:
            history.stopped = f"no better checkpoint in {self.waited} looks at the held-out images, at step {step}"

    def _batches(self, begin: int) -> Iterator[tuple[int, Fed, Fed | None]]:
        asked = self.asked
        train, _, fool, _ = self.stage.feeds
        assert train is not None
        given = (self.share, asked.steps, asked.seed, begin, self.processes.shard)
        batches = train.stream(*given)
        pairs = fool.stream(*given) if fool is not None else (None for _ in range(begin, asked.steps))
        return zip(range(begin, asked.steps), batches, pairs, strict=True)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of everything that changes."""
        changing: dict[str, Tensor] = dict(self.stage.trained)
        if self.asked.batch_norm == "train":
            changing |= dict(self.stage.fooled.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in changing.items()}

    def _put(self, weights: dict[str, Tensor]) -> None:
        places = dict(self.stage.fooled.named_parameters()) | dict(self.stage.fooled.named_buffers())
        with torch.no_grad():
            for name, tensor in weights.items():
                places[name].copy_(tensor)

    def _save(self, checkpoint: Checkpoint | None, step: int, optimizer: torch.optim.Optimizer) -> None:
        if checkpoint is None or self.processes.index:
            return
        checkpoint.save(
            {
                "spec": self.spec,
                "step": step,
                "weights": self._weights(),
                "good": self.good,
                "optimizer": optimizer.state_dict(),
                "rows": self.history.rows,
                "best": self.history.best,
                "stopped": self.history.stopped,
                "key": list(self.key),
                "waited": self.waited,
                "weight": self.weight,
                "seconds": self.seconds,
            }
        )

    def _put_optimizer(self, kept: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """The moments of a checkpoint; rates and other settings are this run's."""
        own, moments = optimizer.state_dict(), kept.get("state")
        sizes = [parameter.shape for parameter in self.stage.trained.values()]
        whole = isinstance(moments, dict) and all(
            type(place) is int
            and 0 <= place < len(sizes)
            and isinstance(entry, dict)
            and {"step", "exp_avg", "exp_avg_sq"} == entry.keys()
            and all(
                isinstance(value, Tensor) and not why_not_plain(value) and is_finite(value) for value in entry.values()
            )
            and entry["step"].numel() == 1
            and entry["exp_avg"].shape == entry["exp_avg_sq"].shape == sizes[place]
            for place, entry in moments.items()
        )
        if not whole:
            raise RunError("the checkpoint's optimizer does not fit this model; delete it to begin anew")
        optimizer.load_state_dict({**own, "state": moments})

    def _resume(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> int:
        if state["spec"] != self.spec:
            raise RunError(
                f"the checkpoint was made with {state['spec']} and this is {self.spec}; "
                "give the same settings to go on, or begin anew in another folder"
            )
        own = self._weights()
        for kept in (state["weights"], state["good"]):
            odd = [n for n in {*own, *kept} if n not in own or n not in kept or own[n].shape != kept[n].shape]
            if odd:
                raise RunError(f"the checkpoint has no {sorted(odd)[0]} of this model's shape; delete it to begin anew")
        self._put(state["weights"])
        self._put_optimizer(state["optimizer"], optimizer)
        self.history.rows, self.history.best, self.history.stopped = state["rows"], state["best"], state["stopped"]
        self.good, self.key, self.waited = state["good"], tuple(state["key"]), state["waited"]
        self.weight, self.seconds = state["weight"], state["seconds"]
        return state["step"]


def check_state(state: Any) -> None:
    """Stop what is no state of a fine-tuning.

    Raises:
        ValueError: what it is instead, as the rest of a sentence after the file's name.
    """
    if not isinstance(state, dict):
        raise ValueError(f"holds no fine-tuning, but {type(state).__name__}")
    for name, kind in STATE.items():
        value = state.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"holds no fine-tuning: its {name} is {type(value).__name__}")
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"holds no fine-tuning: its {name} is {value}")
    for kept in (state["weights"], state["good"]):
        for name, value in kept.items():
            if not isinstance(value, Tensor) or why_not_plain(value) or not is_finite(value):
                raise ValueError(f"holds weights that are no finite numbers: {str(name)[:100]}")
    rows, key = state["rows"], state["key"]
    known = all(isinstance(row, dict) and type(row.get("step")) is int for row in rows)
    if not rows or not known or [row["step"] for row in rows] != list(range(state["step"] + 1)):
        raise ValueError(f"holds no history of {state['step']} steps")
    if any(not isinstance(value, int | float | None) for row in rows for value in row.values()):
        raise ValueError("holds a history of other things than numbers")
    if len(key) != 2 or not all(isinstance(value, int | float) and math.isfinite(value) for value in key):
        raise ValueError("does not say how good its best weights are")


def _part(fed: Fed, part: int, parts: int) -> Fed:
    return Fed(*(tensor[part::parts] for tensor in fed))
