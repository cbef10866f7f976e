"""Whether logits and gradients are made of numbers."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.errors import ModelError

ANSWER = "what the network answers"
_CHECKED = ContextVar("checked", default=True)


@contextmanager
def unchecked() -> Generator[None]:
    """Inside, nothing is stopped: a training that judges weights which have exploded notices it in its loss."""
    token = _CHECKED.set(False)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def check_finite(values: Float[Tensor, "batch ..."], what: str = "the gradient with respect to the pixels") -> None:
    """Stop what is not finite: a gradient, as a root of zero makes it, or logits; not inside :func:`unchecked`.

    Raises:
        ModelError: with the images of the batch in which it happens.
    """
    # one number says so, or asks for a second look: finite numbers can have an infinite sum
    if not _CHECKED.get() or bool(values.sum().isfinite()):
        return
    finite = torch.isfinite(values).flatten(1).all(1)
    if not finite.all():
        places = (~finite).nonzero()[:, 0].tolist()
        raise ModelError(
            f"{what} is NaN or infinite for {len(places)} of {len(values)} images (the first is number {places[0]} of "
            "the batch); look for a division by zero, a root of zero or an overflow in the model, or use --precision "
            "float32"
        )
