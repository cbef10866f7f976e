"""Where a model runs and how precisely: device, number format, memory layout."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.models.checkpoint import check_weights
from heatproof.types import settings

Precision = Literal["fp32", "bf16", "auto"]
"""``auto`` is what a verb settles by its first photos (:mod:`heatproof.commands.precision`); nothing computes in it."""
M = TypeVar("M", bound=nn.Module)


@settings
class Hardware:
    """The device and the precision of one run.

    ``bf16`` runs convolutions and matrix products in bfloat16 (autocast) with channels_last layout; sums over heatmaps
    stay in float32.

    Args:
        device: ``auto`` (a CUDA device where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``fp32`` or ``bf16``; ``auto`` is settled before.

    Raises:
        InputError: for a device that is not there, or an unknown precision.
    """

    device: str = "auto"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.precision == "auto":
            raise InputError(
                "precision auto is settled by the maps of the first photos, which explain, shift, compare, audit and "
                "evaluate have; here give fp32 or bf16"
            )
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision is fp32 or bf16, got {self.precision!r}")
        try:
            torch.empty(0, device=self.place)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {self.device!r} cannot be used: {reason}; try --device cpu") from error

    @property
    def place(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def host(self, model: M) -> M:
        """The model on the device, in the layout that suits the precision.

        Raises:
            ModelError: its weights are no finite numbers.
        """
        check_weights(model)
        model = model.to(self.place)
        # torch types the layout for tensors of four axes only
        return model.to(memory_format=torch.channels_last) if self.precision == "bf16" else model  # pyright: ignore[reportCallIssue]

    def bring(self, images: Tensor) -> Tensor:
        """Images on the device, in the layout that suits the precision."""
        images = images.to(self.place, non_blocking=True)
        return images.contiguous(memory_format=torch.channels_last) if self.precision == "bf16" else images

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model is called."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.place.type, dtype=torch.bfloat16)


def computes_in_bf16(place: torch.device) -> bool:
    """Whether the device itself computes in bfloat16; elsewhere it is imitated, and slower than float32.

    On a CPU this takes AVX-512 BF16 or AMX (x86), or BF16 (ARM).
    """
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if place.type != "cpu":
        return False
    # torch of 2.10 and before does not tell: then it is not known, and not taken
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(name) is True for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))
