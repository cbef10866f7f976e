"""Plain training: a network, an optimizer, batches and a loss, without clean model or budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from heatproof.errors import RunError
from heatproof.training.state import Checkpoint

T = TypeVar("T")


def train(
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    batches: Callable[[int], Iterable[T]],
    loss: Callable[[T, int], Tensor],
    *,
    steps: int,
    checkpoint: Checkpoint | None = None,
    every: int = 1,
    generator: torch.Generator | None = None,
    advance: Callable[[int, float], None] = lambda done, loss: None,
) -> None:
    """One step of the optimizer and of the schedule for each batch, until ``steps`` are done.

    Args:
        network: in the mode in which it is to be trained.
        batches: called with the number of steps done: the batches of all further ones.
        loss: of a batch, at the step of this number (from 0 on).
        checkpoint: makes the training resumable: the same call goes on where the last one was stopped, and on a CPU
            ends with the same weights to the last bit.
        every: steps between two checkpoints; there is one after the last step too.
        generator: what ``loss`` draws from, if it draws; it goes on as well.
        advance: called after each step, and before its checkpoint, with the steps done and the loss.

    Raises:
        RunError: the checkpoint is none of a plain training.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(network.weight)
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
    >>> schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    >>> error = lambda x, step: (network(x) - 1).square().mean()
    >>> train(network, optimizer, schedule, lambda done: [torch.ones(1, 1)] * (2 - done), error, steps=2)
    >>> network.weight.item()  # half of the way to 1, twice
    0.75
    """
    saved = checkpoint.load() if checkpoint is not None else None
    begin = _resume(PlainState.load(saved), network, optimizer, schedule, generator) if saved is not None else 0
    for done, batch in enumerate(batches(begin), begin + 1):
        value = loss(batch, done - 1)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        advance(done, float(value.detach()))
        if checkpoint is not None and (done % every == 0 or done == steps):
            drawn = generator.get_state() if generator is not None else None
            state = PlainState(done, network.state_dict(), optimizer.state_dict(), schedule.state_dict(), drawn)
            checkpoint.save(vars(state))


@dataclass(frozen=True)
class PlainState:
    """All that a plain training needs to go on as if it had never been stopped."""

    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    generator: Tensor | None

    @classmethod
    def load(cls, saved: dict[str, Any]) -> "PlainState":
        """The state of a checkpoint.

        Raises:
            RunError: something is missing.
        """
        if missing := [entry.name for entry in fields(cls) if entry.name not in saved]:
            raise RunError(f"the checkpoint of the training holds no {', '.join(missing)}; delete it to begin anew")
        return cls(**{entry.name: saved[entry.name] for entry in fields(cls)})


def _resume(
    state: PlainState,
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    generator: torch.Generator | None,
) -> int:
    network.load_state_dict(state.network)
    optimizer.load_state_dict(state.optimizer)
    schedule.load_state_dict(state.schedule)
    if generator is not None and state.generator is not None:
        generator.set_state(state.generator)
    return state.step
