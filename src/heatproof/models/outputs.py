"""What a network returns, read as logits: tensors, dicts, tuples and objects; one logit; probabilities."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from heatproof.errors import HeatproofError, ModelError
from heatproof.types import Logits

NAMES = ("logits", "out")
"""Keys and attributes that libraries keep the logits under."""
MAPS = (
    "; of a network that segments ask about a class over a region: --score 'over_mask()', or "
    "Classifier(network, reading=OverMask())"
)
DETECTIONS = (
    "; of a network that detects ask about the detection in a box: --score 'detection(91, box=(...))', or "
    "Classifier(network, reading=Detection(...))"
)
# the auxiliary heads of Inception and GoogLeNet come after the logits, in training mode
WITH_AUXILIARIES = ("InceptionOutputs", "GoogLeNetOutputs")


@contextmanager
def told_as_own(name: str, images: Tensor) -> Generator[None]:
    """What the user's own network raises is told as his, with the shape that went in.

    Raises:
        ModelError: one sentence in the place of any exception that is not heatproof's and not for want of memory.
    """
    try:
        yield
    except (HeatproofError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        said = f": {said[:300]}" if said else ""
        raise ModelError(
            f"the network {name} failed on images {list(images.shape)} of "
            f"{str(images.dtype).removeprefix('torch.')}, in its own forward pass: {type(error).__name__}{said}"
        ) from error


def read_logits(
    output: Any,
    count: int,
    name: str,
    key: str | int | None = None,
    probabilities: bool = False,
    reading: Callable[[Any], Tensor] | None = None,
) -> Logits:
    """The logits ``[batch, classes]`` in what a network returned for ``count`` images.

    One number z per image is the logit of the second of two classes: the pair (0, z), whose softmax is the sigmoid.

    Args:
        reading: makes them of maps or detections (:mod:`heatproof.models.readings`).

    Raises:
        ModelError: says what was returned, and how to name the logits in it.
    """
    listed = reading is not None and key is None and isinstance(output, list)
    logits = output if listed else _found(output, name, key)
    if probabilities and isinstance(logits, Tensor):
        logits = _from_probabilities(logits[:, None] if logits.ndim == 1 else logits, name)
    if reading is not None:
        logits = reading(logits)
    if isinstance(logits, Tensor) and logits.ndim == 1 and len(logits) == count:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count or not logits.shape[1]:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        maps = isinstance(logits, Tensor) and logits.ndim == 4 and min(logits.shape[2:]) > 1
        raise ModelError(
            f"a classifier returns logits [batch, classes], here [{count}, classes]; {name} returned {what}"
            f"{MAPS if maps else ''}"
        )
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _found(output: Any, name: str, key: str | int | None) -> Any:
    if key is not None:
        try:
            return getattr(output, key) if isinstance(key, str) and hasattr(output, key) else output[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"{name} returned {_described(output)}, in which there is no {key!r} (logits_key)"
            ) from error
    if isinstance(output, Tensor):
        return output
    if type(output).__name__ in WITH_AUXILIARIES or (isinstance(output, tuple) and len(output) == 1):
        return output[0]
    for known in NAMES:
        if isinstance(output, Mapping) and known in output:
            return output[known]
        if isinstance(getattr(output, known, None), Tensor):
            return getattr(output, known)
    if isinstance(output, list) and output and all(isinstance(part, Mapping) and "boxes" in part for part in output):
        raise ModelError(f"{name} returned {_described(output)}, which are no logits{DETECTIONS}")
    raise ModelError(
        f"{name} returned {_described(output)}, and which part is the logits is not known: say so with "
        "Classifier(network, logits_key=...), a key, an attribute or an index"
    )


def _described(output: Any) -> str:
    """A dict's keys, a tuple's shapes, else the type."""
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} of {', '.join(map(repr, list(output)[:6]))}"
    if isinstance(output, tuple | list):
        parts = [str(list(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in output[:6]]
        return f"a {type(output).__name__} of {', '.join(parts)}"
    return f"a {type(output).__name__}"


def _from_probabilities(given: Tensor, name: str) -> Tensor:
    """Log-probabilities of rows that sum to 1, log-odds of anything else in [0, 1]."""
    low, high = given.detach().aminmax()
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ModelError(
            f"{name} is said to end in softmax or sigmoid (probabilities=True), but returned numbers in "
            f"[{low:.3g}, {high:.3g}]; leave probabilities out where these are logits"
        )
    tiny = torch.finfo(given.dtype).tiny
    if given.shape[1] > 1 and sums_to_one(given):
        return given.clamp(min=tiny).log()
    return given.clamp(min=tiny).log() - (1 - given).clamp(min=torch.finfo(given.dtype).eps / 2).log()


def sums_to_one(outputs: Tensor) -> bool:
    return bool(((outputs.detach().sum(1) - 1).abs() <= 1e-3).all())


def looks_like_probabilities(outputs: Tensor) -> bool:
    """Whether rows lie in [0, 1] and sum to 1, as a softmax's do: logits hardly ever do that.

    >>> looks_like_probabilities(torch.tensor([[2.0, -1.0]])), looks_like_probabilities(torch.tensor([[0.7, 0.3]]))
    (False, True)
    """
    inside = bool((outputs >= 0).all()) and bool((outputs <= 1).all())
    # one logit is the pair (0, z), which sums to 1 where z is 1
    return outputs.shape[1] > 1 and inside and sums_to_one(outputs) and bool((outputs > 0).any(0).all())
