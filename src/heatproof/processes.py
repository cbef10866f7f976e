"""Several processes that share one run or one fine-tuning: rank, device, wait, sum.

``accelerate launch -m heatproof ...`` or ``torchrun -m heatproof ...`` starts them; a single process needs nothing.
"""

import atexit
import contextlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from heatproof.errors import RunError
from heatproof.shard import WHOLE, Shard

CPU = torch.device("cpu")
PATIENCE = timedelta(days=7)
"""How long a process waits for the slowest; the default of torch.distributed is half an hour."""


def _leave() -> None:
    """Leave the others before the interpreter ends: a thread of theirs that still runs then aborts the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class Processes:
    """The processes that were launched together, seen by one of them; alone by default.

    Attributes:
        index: this one's rank.
        count: how many there are.
        device: what this one computes on.
        job: the shard of the job that they all work on; other shards are processes that nobody waits for.
    """

    index: int = 0
    count: int = 1
    device: torch.device = CPU
    job: Shard = WHOLE

    @classmethod
    def here(cls, device: str | torch.device = "auto", job: Shard = WHOLE) -> "Processes":
        """What the launcher's environment says: accelerate's, torchrun's, or no launcher at all.

        Args:
            device: for a single process; several take the one of their local rank where it says ``auto`` or ``cuda``.

        Raises:
            RunError: the environment contradicts itself, or the processes cannot find each other.
        """
        count = launched()[1]
        own = torch.device(own_device(str(device)))
        if count == 1:
            return cls(device=own, job=job)
        pin()
        # loads slowly, and only several processes need it
        from accelerate import PartialState

        try:
            state = PartialState(cpu=own.type == "cpu", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"WORLD_SIZE announces {count} processes, but they cannot find each other ({error}); start them "
                "with torchrun or accelerate launch, or unset WORLD_SIZE"
            ) from error
        if state.num_processes > 1:
            atexit.unregister(_leave)
            atexit.register(_leave)
        return cls(
            state.process_index,
            state.num_processes,
            own if state.num_processes == 1 else torch.device(state.device or own),
            job,
        )

    @property
    def ends(self) -> bool:
        """Whether this one makes the end of a run of all parts: joins, draws and answers."""
        return self.index == 0 and not self.job.is_share

    def parts(self, total: int) -> range:
        """The numbers of this process's parts, of ``total``.

        >>> list(Processes(1, 2, job=Shard(2, 3)).parts(12))
        [4, 10]
        """
        return self.job.parts(total)[self.index :: self.count]

    def photos(self, total: int, part: int) -> int:
        """How many of ``total`` photos are its shard's, in parts of ``part``.

        >>> Processes(job=Shard(2, 2)).photos(10, 4)
        4
        """
        return sum(min(part, total - number * part) for number in self.job.parts(-(-total // part)))

    @property
    def shard(self) -> tuple[int, int]:
        """Rank and number: which share of a batch is this process's."""
        return self.index, self.count

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        with _together():
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

            with _together():
                PartialState().wait_for_everyone()


@contextmanager
def _together() -> Generator[None]:
    """What torch says in pages when another process is gone, in a sentence."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"the processes that share this run have lost each other ({reason}); what the first to stop said tells why"
        ) from error


def launched() -> tuple[int, int]:
    """Rank and number of the processes that were launched together, from the environment: RANK and WORLD_SIZE.

    A rank without a number of processes is a leftover of some other job: then there is one process.

    Raises:
        RunError: they are no whole numbers, or contradict each other.
    """
    rank, count = (_whole_number(name) for name in ("RANK", "WORLD_SIZE"))
    if count is None or count == 1:
        return 0, 1
    if rank is None or not 0 <= rank < count:
        came = "is not set" if rank is None else f"is {rank}"
        raise RunError(
            f"WORLD_SIZE is {count}, so RANK must be from 0 to {count - 1}, but it {came}; start the processes with "
            "torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    return rank, count


BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables by which a user says on which cores threads run; any of them, whatever it says, leaves that to the user."""


def pin() -> set[int] | None:
    """Keep this process to its own share of the machine's cores, beside the others that were launched with it here.

    Threads that wander between cores leave their caches behind, and those of several processes meet on one. Nothing is
    done where somebody has chosen already (:data:`BINDING`, or fewer cores than the machine has: ``taskset``, SLURM, a
    container), where the launcher does not say how many processes are here, or where there are fewer cores than
    processes.

    Returns:
        The cores; ``None`` where nothing was done.
    """
    place, count = _whole_number("LOCAL_RANK"), _whole_number("LOCAL_WORLD_SIZE")
    if place is None or count is None or place >= count or any(name in os.environ for name in BINDING):
        return None
    if not hasattr(os, "sched_setaffinity") or not os.path.isdir("/proc/self/task"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < max(count, os.cpu_count() or 1):
        return None
    own = set(cores[place * len(cores) // count : (place + 1) * len(cores) // count])
    for thread in os.listdir("/proc/self/task"):
        # one that ends meanwhile needs no core; where it is forbidden all stay where they are
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread), own)
    return own


def _whole_number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise RunError(f"expected a whole number in the environment variable {name}, got {text!r}; unset it")
    return int(text) if text else None


def own_device(device: str = "auto") -> str:
    """This process's own device: with ``auto`` and several GPUs the one of its local rank.

    >>> own_device("cpu")
    'cpu'
    """
    if device != "auto":
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
