"""A softplus copy of a model: ReLU's kink rounded off, so that gradient maps have a slope to climb.

The second derivative of a ReLU network is zero almost everywhere. With softplus_beta(x) = log(1 + exp(beta x)) / beta
in the place of ReLU it is not, and as beta grows the copy's outputs tend to the model's.
"""

import copy
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

from heatproof.errors import ModelError
from heatproof.types import Images, Logits


def smooth(model: nn.Module, beta: float) -> Any:
    """The model with softplus for every ReLU, ReLU6 and leaky ReLU, whether module, function or in place.

    The copy shares the layers, weights and names of the model, which itself is not changed: only while the copy is
    called, the functions behind these activations are others. It takes the model's place in every explainer.

    **Source** Dombrowski et al. 2019, section 4. **Differs** no layer is exchanged.

    Args:
        model: a :class:`~heatproof.models.classifier.Classifier` or any module.
        beta: how sharp the bend is; Dombrowski et al. let it grow from 10 to 100.

    Raises:
        ModelError: a beta that is not positive.
    """
    if not beta > 0:
        raise ModelError(f"beta must be positive, got {beta}")
    copied = copy.copy(model)

    def forward(images: Images) -> Logits:
        with softened(beta):
            # the class's own forward, on the copy: calling the model itself would run its hooks twice
            return type(model).forward(copied, images)

    copied.forward = forward
    return copied


def rectifies(model: Callable[[Images], object], images: Images) -> bool:
    """Whether a forward pass goes through a ReLU, ReLU6 or leaky ReLU.

    >>> rectifies(torch.nn.ReLU(), torch.zeros(1, 3, 2, 2)), rectifies(torch.nn.SiLU(), torch.zeros(1, 3, 2, 2))
    (True, False)
    """
    with _Listening() as heard, torch.no_grad():
        model(images)
    return heard.called


@contextmanager
def softened(beta: float, *, own: bool = False) -> Generator[None]:
    """Inside, torch's functions behind ReLU, ReLU6 and leaky ReLU are softplus of this beta.

    Args:
        own: softplus is the network's own activation, and not what stands for its ReLUs (:func:`rounded_off`).

    >>> with softened(10.0):
    ...     torch.nn.ReLU()(torch.zeros(1))
    tensor([0.0693])
    """
    with _Softplus(Softplus(beta, own)):
        yield


def rounded_off(output: Tensor) -> Tensor:
    """What stands in a ReLU's place, as it is: a mark for who treats ReLUs in a way of his own (guided backprop)."""
    if has_torch_function_unary(output):
        return handle_torch_function(rounded_off, (output,), output)
    return output


class _Softplus(TorchFunctionMode):
    def __init__(self, soft: "Softplus"):
        super().__init__()
        self.soft = soft

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rounded = _ROUNDED.get(func)
        if rounded is None:
            return func(*args, **(kwargs or {}))
        return rounded(self.soft, *args, **(kwargs or {}))


class _Listening(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.called = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called = self.called or func in _ROUNDED
        return func(*args, **(kwargs or {}))


class Softplus(NamedTuple):
    """log(1 + exp(beta x)) / beta, the network's own or in a ReLU's place."""

    beta: float
    own: bool

    def __call__(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta)


def _relu(soft: Softplus, input: Tensor, inplace: bool = False) -> Tensor:
    return _stored(soft, input, soft(_copied(input, inplace)), inplace)


def _hardtanh(
    soft: Softplus, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    x = _copied(input, inplace)
    return _stored(soft, input, min_val + soft(x - min_val) - soft(x - max_val), inplace)


def _leaky(soft: Softplus, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    x = _copied(input, inplace)
    return _stored(soft, input, negative_slope * x + (1 - negative_slope) * soft(x), inplace)


def _relu6(soft: Softplus, input: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(soft, input, 0.0, 6.0, inplace)


def _copied(input: Tensor, inplace: bool) -> Tensor:
    # softplus needs its input again on the way back, so what is overwritten is copied first
    return input.clone() if inplace else input


def _stored(soft: Softplus, input: Tensor, output: Tensor, inplace: bool) -> Tensor:
    output = output if soft.own else rounded_off(output)
    # a caller may use the tensor that he handed in and not the result
    return input.copy_(output) if inplace else output


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda soft, *args, **kwargs: function(soft, *args, **kwargs, inplace=True)


_ROUNDED: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), _in_place(_relu)),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _in_place(_hardtanh),
    F.leaky_relu: _leaky,
    F.leaky_relu_: _in_place(_leaky),
}
