"""Several processes that share one fine-tuning: each takes its part of every batch, sums go round.

Started by ``accelerate launch`` (or torchrun); a single process needs nothing.
"""

from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """Attributes: this process's ``index``, their ``count``, and the ``device`` this one computes on."""

    index: int
    count: int
    device: torch.device

    @classmethod
    def here(cls, device: torch.device) -> "Processes":
        """The processes that were launched together with this one; a single one computes on ``device``."""
        state = PartialState(cpu=device.type == "cpu")
        return cls(state.process_index, state.num_processes, device if state.num_processes == 1 else state.device)

    @property
    def shard(self) -> tuple[int, int]:
        return self.index, self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        return tensor if self.count == 1 else reduce(tensor, "sum")  # type: ignore[return-value]

    def sum_gradients(self, parameters: list[torch.nn.Parameter], more: Tensor) -> Tensor:
        """Sum the gradients over all processes, in place; hands back the sum of ``more``, in the same message."""
        if self.count == 1:
            return more
        # every process must send equally much
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        summed = self.sum(torch.cat([*(gradient.flatten() for gradient in gradients), more.to(gradients[0])]))
        *parts, rest = summed.split([*(gradient.numel() for gradient in gradients), len(more)])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()
        return rest.to(more)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            PartialState().wait_for_everyone()
