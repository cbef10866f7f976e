"""Convolutions computed together with the batch norm and the activation behind them, where nothing else sees between.

On a CPU the rest of a network takes as long as its convolutions: each result is written, read, normalised, written,
read and clipped again. The same numbers come out, up to rounding: the batch norm of eval mode is drawn into the
weights, and oneDNN clips before it writes. Which ones belong together is seen in a first pass, not taken from names.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

R = TypeVar("R")

DTYPES = (torch.float32, torch.bfloat16)
"""In which oneDNN convolves here."""


class _Activation(NamedTuple):
    """An activation as oneDNN calls it."""

    name: str
    numbers: tuple[float, ...] = ()


class _Norm(NamedTuple):
    """A batch norm in eval mode."""

    mean: Tensor
    variance: Tensor
    scale: Tensor | None
    shift: Tensor | None
    epsilon: float

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The convolution that does both."""
        factor = (self.variance + self.epsilon).rsqrt() * (1.0 if self.scale is None else self.scale)
        moved = (0.0 if bias is None else bias) - self.mean
        return weight * factor[:, None, None, None], moved * factor + (0.0 if self.shift is None else self.shift)


_Step = _Activation | _Norm


@dataclass
class _Node:
    """What a convolution or the norm behind it put out in the first pass, and who took it: the step, and its output."""

    takers: list[tuple[_Step | None, "_Node | None"]] = field(default_factory=list)


@dataclass
class _Chain:
    """A convolution and what is computed with it."""

    weight: Tensor
    steps: tuple[_Step, ...]
    packed: dict[Any, tuple[Tensor, Tensor | None]] = field(default_factory=dict)

    def __call__(
        self, image: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor:
        key = image.dtype, image.shape[1:]
        if key not in self.packed:
            weight, bias = self.weight.detach(), None if bias is None else bias.detach()
            for step in self.steps:
                if isinstance(step, _Norm):
                    weight, bias = step.folded(weight, bias)
            weight, bias = weight.to(image.dtype), None if bias is None else bias.to(image.dtype)
            packed = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[attr-defined]
                weight.to_mkldnn(), padding, stride, dilation, groups, image.shape
            )
            self.packed[key] = packed, bias
        weight, bias = self.packed[key]
        last = self.steps[-1] if self.steps and isinstance(self.steps[-1], _Activation) else _Activation("none")
        how = (last.name, list(last.numbers), "")
        return torch.ops.mkldnn._convolution_pointwise(image, weight, bias, padding, stride, dilation, groups, *how)


class _OutOfPlanError(Exception):
    """Something else was called than in the first pass."""


class FusedConvolutions(TorchFunctionMode):
    """Runs passes of one network, after the first one with fused convolutions.

    Only passes without gradients on a CPU with oneDNN are changed, and only convolutions whose output nothing but the
    batch norm and the activation takes: a layer that a hook reads stays as it is. Weights must not change between the
    passes.

    >>> layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    >>> images, fused = torch.rand(2, 3, 8, 8), FusedConvolutions()
    >>> with torch.no_grad():
    ...     first, second = (fused.run(lambda: layer(images)) for _ in range(2))
    >>> torch.allclose(first, second, atol=1e-6)
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._on = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        self._convolved: list[tuple[Tensor, _Node]] = []
        self._made: dict[int, tuple[weakref.ref[Tensor], _Node]] = {}
        self._plan: dict[int, _Chain] | None = None
        self._pending: dict[int, tuple[Tensor, tuple[_Step, ...]]] = {}

    @property
    def count(self) -> int:
        """Convolutions that are computed with something else; 0 before the second pass."""
        return sum(len(chain.steps) > 0 for chain in (self._plan or {}).values())

    def run(self, once: Callable[[], R]) -> R:
        """One pass; the first is watched, and the others are faster."""
        if not self._on:
            return once()
        if self._plan is None:
            with self:
                found = once()
            self._plan = self._planned()
            self._on = self.count > 0
            return found
        try:
            with self:
                return once()
        except (_OutOfPlanError, RuntimeError):
            # a network that does something else in each pass, or an operator that this torch lacks: as it is, then
            self._on = False
            return once()
        finally:
            self._pending.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _QUESTIONS:
            return func(*args, **(kwargs or {}))
        return (self._watched if self._plan is None else self._computed)(func, args, kwargs or {})

    def _watched(self, func: Any, args: Any, kwargs: Any) -> Any:
        step, made = _step(func, args, kwargs), None
        taken = [node for value in tree_leaves((args, kwargs)) if (node := self._node(value)) is not None]
        result = func(*args, **kwargs)
        if func == torch.conv2d and _fits(args, kwargs):
            made = _Node()
            self._convolved.append((args[1], made))
        elif isinstance(step, _Norm):
            made = _Node()
        for node in taken:
            node.takers.append((step, made))
        if isinstance(result, Tensor):
            # what is activated in place is no longer what was convolved
            self._made.pop(id(result), None)
            if made is not None:
                self._made[id(result)] = weakref.ref(result), made
        return result

    def _node(self, value: Any) -> _Node | None:
        made = self._made.get(id(value))
        return made[1] if made is not None and made[0]() is value else None

    def _planned(self) -> dict[int, _Chain]:
        """A chain for each convolution that was called once."""
        calls = Counter(id(weight) for weight, _ in self._convolved)
        plan = {}
        for weight, node in self._convolved:
            steps: list[_Step] = []
            while node is not None and len(node.takers) == 1 and node.takers[0][0] is not None:
                step, node = node.takers[0]
                steps += [step] if step is not None else []
            if calls[id(weight)] == 1:
                plan[id(weight)] = _Chain(weight, _one_norm(steps))
        self._convolved.clear()
        self._made.clear()
        return plan

    def _computed(self, func: Any, args: Any, kwargs: Any) -> Any:
        for value in _leaves(args, kwargs) if self._pending else ():
            if id(value) in self._pending:
                return self._skipped(_step(func, args, kwargs), value, args[0])
        if func == F.pad and _frames(args, kwargs):
            return _framed(args[0], args[1])
        chain = (self._plan or {}).get(id(args[1])) if func == torch.conv2d and _fits(args, kwargs) else None
        if chain is None or chain.weight is not args[1]:
            return func(*args, **kwargs)
        image, _, bias, *how = args
        result = chain(image.to(_dtype(image)), bias, *how)
        if chain.steps:
            self._pending[id(result)] = result, chain.steps
        return result

    def _skipped(self, step: _Step | None, value: Tensor, first: Any) -> Tensor:
        """What has been computed with the convolution already."""
        _, (expected, *rest) = self._pending.pop(id(value))
        if isinstance(step, _Norm) and isinstance(expected, _Norm):
            same = step.mean is expected.mean
        else:
            same = isinstance(step, _Activation) and isinstance(expected, _Activation) and step == expected
        if not same or value is not first:
            raise _OutOfPlanError
        if rest:
            self._pending[id(value)] = value, tuple(rest)
        return value


def _leaves(args: Any, kwargs: Any) -> Iterable[Any]:
    """All values of a call; nearly all calls are flat, and torch's own walk takes as long as a small layer."""
    flat = (*args, *kwargs.values())
    if any(
        isinstance(value, list | dict | set) or (isinstance(value, tuple) and not _numbers(value)) for value in flat
    ):
        return tree_leaves(flat)
    return flat


def _numbers(value: tuple[Any, ...]) -> bool:
    return all(isinstance(one, int | float) for one in value)


def _frames(args: Any, kwargs: Any) -> bool:
    """Whether zeros are put round images, without gradients and on a CPU."""
    if not kwargs.keys() <= {"mode", "value"} or len(args) != 2 or torch.is_grad_enabled():
        return False
    image, sides = args
    plain = kwargs.get("mode", "constant") == "constant" and not kwargs.get("value")
    return plain and image.ndim == 4 and image.device.type == "cpu" and len(sides) == 4 and min(sides) >= 0


def _framed(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Zeros round images; torch's own writes zeros everywhere first, and the images over them.

    >>> image = torch.rand(2, 3, 4, 5)
    >>> torch.equal(_framed(image, (0, 1, 2, 0)), F.pad(image, (0, 1, 2, 0)))
    True
    """
    left, right, above, below = sides
    rows, cols = image.shape[2:]
    shape = (*image.shape[:2], above + rows + below, left + cols + right)
    last = image.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    found = torch.empty(shape, dtype=image.dtype, memory_format=form)
    found[:, :, above : above + rows, left : left + cols] = image
    for border in (found[:, :, :above], found[:, :, above + rows :], found[..., :left], found[..., left + cols :]):
        border.zero_()
    return found


def _one_norm(steps: list[_Step]) -> tuple[_Step, ...]:
    """At most one norm and then at most one activation."""
    chosen: list[_Step] = []
    for step in steps:
        if chosen and (isinstance(step, _Norm) or isinstance(chosen[-1], _Activation)):
            break
        chosen.append(step)
    return tuple(chosen)


def _fits(args: Any, kwargs: Any) -> bool:
    """Whether it is a convolution as a layer calls it, without gradients, of a kind that oneDNN computes."""
    if kwargs or len(args) != 7 or torch.is_grad_enabled():
        return False
    image, weight, _, *pairs, _ = args
    return (
        image.ndim == 4
        and image.device.type == "cpu"
        and weight.dtype in DTYPES
        and _dtype(image) in DTYPES
        and (torch.is_autocast_enabled("cpu") or image.dtype == weight.dtype)
        and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
    )


def _dtype(image: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else image.dtype


def _step(func: Any, args: Any, kwargs: Any) -> _Step | None:
    """What a call does to a convolution's output, if it is something that can be computed with it."""
    if func == F.batch_norm and len(args) == 3:
        known = args[1] is not None and args[2] is not None and not kwargs["training"]
        return _Norm(args[1], args[2], kwargs["weight"], kwargs["bias"], kwargs["eps"]) if known else None
    if func in (F.hardtanh, F.hardtanh_):
        return _Activation(
            "hardtanh", (kwargs.get("min_val", _at(args, 1, -1.0)), kwargs.get("max_val", _at(args, 2, 1.0)))
        )
    return _ACTIVATIONS.get(func)


def _at(args: Any, place: int, default: float) -> float:
    return args[place] if len(args) > place else default


_ACTIVATIONS: dict[Any, _Activation] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _Activation("relu")),
    F.relu6: _Activation("hardtanh", (0.0, 6.0)),
    F.silu: _Activation("swish"),
    F.hardswish: _Activation("hardswish"),
}
_QUESTIONS = {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "data_ptr", "__len__"}
"""Of a tensor's shape and kind, which do not read its values."""
