"""Several processes that share one run or one fine-tuning: rank, device, wait, sum.

``accelerate launch -m heatproof ...`` or ``torchrun -m heatproof ...`` starts them; a single process needs nothing.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

CPU = torch.device("cpu")
PATIENCE = timedelta(days=7)
"""How long a process waits for the slowest; the default of torch.distributed is half an hour."""


@dataclass(frozen=True)
class Processes:
    """The processes that were launched together, seen by one of them; alone by default.

    Attributes:
        index: this one's rank.
        count: how many there are.
        device: what this one computes on.
    """

    index: int = 0
    count: int = 1
    device: torch.device = CPU

    @classmethod
    def here(cls, device: str | torch.device = "auto") -> "Processes":
        """What the launcher's environment says: accelerate's, torchrun's, or no launcher at all.

        Args:
            device: for a single process; several take the one of their local rank where it says ``auto`` or ``cuda``.
        """
        own = torch.device(own_device(str(device)))
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls(device=own)
        # loads slowly, and only several processes need it
        from accelerate import PartialState

        state = PartialState(cpu=own.type == "cpu", timeout=PATIENCE)
        return cls(
            state.process_index,
            state.num_processes,
            own if state.num_processes == 1 else torch.device(state.device or own),
        )

    @property
    def shard(self) -> tuple[int, int]:
        """Rank and number: which share of a batch is this process's."""
        return self.index, self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        return reduce(tensor, "sum")  # type: ignore[return-value]

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
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def own_device(device: str = "auto") -> str:
    """This process's own device: with ``auto`` and several GPUs the one of its local rank.

    >>> own_device("cpu")
    'cpu'
    """
    if device != "auto":
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
