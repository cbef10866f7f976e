"""What a rule sees of a layer: W and b with their products, or the call itself."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from heatproof.errors import ModelError
from heatproof.explainers.lrp.kinds import Kind, function_name


class Affine(NamedTuple):
    """One call of a convolution, linear layer or batch norm: x -> W x + b, with the weights that are live now."""

    name: str
    weight: Tensor
    bias: Tensor | None
    """One number per output channel."""
    outputs: int
    """The number of output channels."""
    forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """(x, weight, bias) -> W x + b."""
    transpose: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(relevance, weight, x) -> W^T relevance, of the shape of x."""
    nonnegative: bool = False
    """Whether the input is known to be >= 0."""
    rectified: bool = False
    """Whether only outputs > 0 can have relevance."""
    bounds: tuple[Tensor, Tensor] | None = None
    """What black and white pixels are at the input, for a layer that reads the pixels."""
    recorded: Tensor | None = None
    """The output in the forward pass, where it was kept."""

    def output(self, x: Tensor) -> Tensor:
        """W x + b."""
        if self.recorded is not None:
            return full(self.recorded)
        return self.forward(x, self.weight, self.bias)


class Call(NamedTuple):
    """One call of anything else, as a function of its signals."""

    name: str
    node: fx.Node
    module: nn.Module | None
    function: Callable[..., Any]
    """Signals -> output; constants and parameters are bound."""
    nonnegative: tuple[bool, ...] = ()
    """For each signal."""
    rectified: bool = False
    arguments: tuple[Any, ...] = ()
    """All arguments with the values of this call."""
    named: Mapping[str, Any] = MappingProxyType({})
    signals: tuple[fx.Node, ...] = ()

    def terms(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What each input adds to a sum or difference."""
        one, other = (full(x) for x in inputs)
        factor: Any = self.node.kwargs.get("alpha", 1)
        factor = -factor if "sub" in function_name(self.node) else factor
        return one, other if factor == 1 else other * factor


def full(tensor: Tensor) -> Tensor:
    """Half precision is for convolutions; relevance is summed in float32."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def adjoint(function: Callable[..., Any], inputs: Sequence[Tensor], relevance: Any) -> list[Tensor]:
    """J^T relevance, J the Jacobian of a function at the inputs.

    Its graph leads to the relevance alone: J is constant or, at a maximum, piecewise constant.
    """
    leaves = [full(x).detach().requires_grad_() for x in inputs]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        output = function(*leaves)
        outputs, relevances = ([output], [relevance]) if isinstance(output, Tensor) else (list(output), list(relevance))
        pairs = [(o, r) for o, r in zip(outputs, relevances, strict=True) if r is not None]
        return list(
            torch.autograd.grad(
                [o for o, _ in pairs], leaves, [r.to(o.dtype) for o, r in pairs], create_graph=create_graph
            )
        )


def live_adjoint(function: Callable[..., Tensor], inputs: Sequence[Tensor], relevance: Tensor) -> list[Tensor]:
    """J^T relevance, where J depends on the inputs: with gradients on, its graph leads to them too."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [
            full(x).view_as(x) if graph and x.requires_grad else full(x).detach().requires_grad_() for x in inputs
        ]
        return list(torch.autograd.grad(function(*leaves), leaves, relevance, create_graph=graph))


def affine(
    kind: Kind, module: nn.Module | None, arguments: dict[str, Any], norm: tuple[Tensor, Tensor] | None, **known: Any
) -> Affine:
    """The view of one call; ``arguments`` are those of the functional form, ``norm`` a batch norm to fold in."""
    source: Any = module
    # torch has no public name for what its batch norms, or its transposed convolutions, have in common
    if issubclass(kind, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
        weight, bias = scale_and_shift(module, arguments)
        weight = weight.view(-1, *[1] * (arguments["input"].ndim - 2))
        return Affine(weight=weight, bias=bias, forward=_diagonal, transpose=_diagonal_t, outputs=len(bias), **known)
    weight = source.weight if source is not None else arguments["weight"]
    bias = source.bias if source is not None else arguments.get("bias")
    if norm is not None:
        scale, shift = norm
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        bias = shift if bias is None else shift + bias * scale
    known |= {"weight": weight, "bias": bias}
    if issubclass(kind, nn.Linear):
        return Affine(forward=_linear, transpose=_linear_t, outputs=len(weight), **known)
    setting = _setting(source, arguments, weight.ndim - 2)
    if issubclass(kind, nn.modules.conv._ConvTransposeNd):  # pyright: ignore[reportPrivateUsage]
        there, back = partial(_deconvolve, **setting), partial(_deconvolve_t, **setting)
        return Affine(forward=there, transpose=back, outputs=weight.shape[1] * setting["groups"], **known)
    setting.pop("output_padding")
    pad = _padding(source, setting, weight)
    there, back = partial(_convolve, pad=pad, **setting), partial(_convolve_t, pad=pad, **setting)
    return Affine(forward=there, transpose=back, outputs=len(weight), **known)


def scale_and_shift(module: Any, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Batch norm in eval mode as x * scale + shift: scale = gamma / sqrt(var + eps), shift = beta - mean * scale."""
    mean: Any
    if module is not None:
        mean, var, weight, bias, eps = module.running_mean, module.running_var, module.weight, module.bias, module.eps
    else:
        mean, var, weight, bias, eps = (
            arguments.get(key) for key in ("running_mean", "running_var", "weight", "bias", "eps")
        )
    if mean is None or var is None:
        raise ModelError(
            "a batch norm without running statistics mixes the images of a batch, so that a map would depend on "
            "its neighbours; build the network with track_running_stats=True"
        )
    scale = (var + (1e-5 if eps is None else eps)).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    return (int(value),) * n if isinstance(value, int) else tuple(int(v) for v in value) * (n if len(value) == 1 else 1)


def _setting(module: Any, arguments: dict[str, Any], n: int) -> dict[str, Any]:
    read = (lambda key, default: getattr(module, key, default)) if module is not None else arguments.get
    padding = read("padding", 0)
    return {
        "stride": _tuple(read("stride", 1), n),
        "padding": padding if isinstance(padding, str) else _tuple(padding, n),
        "dilation": _tuple(read("dilation", 1), n),
        "groups": int(read("groups", 1)),
        "output_padding": _tuple(read("output_padding", 0), n),
    }


def _padding(module: Any, setting: dict[str, Any], weight: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Padding that a convolution cannot do by itself on both sides alike: circular, reflected, or an odd ``same``."""
    mode = getattr(module, "padding_mode", "zeros")
    if setting["padding"] == "valid":
        setting["padding"] = (0,) * (weight.ndim - 2)
    if setting["padding"] == "same":
        pads: list[int] = []
        for size, dilation in zip(reversed(weight.shape[2:]), reversed(setting["dilation"]), strict=True):
            whole = dilation * (size - 1)
            pads += [whole // 2, whole - whole // 2]
    elif mode == "zeros":
        return None
    else:
        pads = [p for p in reversed(setting["padding"]) for _ in (0, 1)]
    setting["padding"] = (0,) * len(setting["stride"])
    return partial(F.pad, pad=pads, mode="constant" if mode == "zeros" else mode)


_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_T: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return full(F.linear(x.to(weight.dtype), weight, bias))


def _linear_t(relevance: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    return full(F.linear(relevance.to(weight.dtype), weight.t()))


def _diagonal(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return full(x) * weight if bias is None else full(x) * weight + bias.view(weight.shape)


def _diagonal_t(relevance: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    return relevance * weight


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, pad: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    x = x if pad is None else pad(x)
    return full(_CONV[weight.ndim - 2](x.to(weight.dtype), weight, bias, stride, padding, dilation, groups))


def _convolve_t(
    relevance: Tensor, weight: Tensor, x: Tensor, *, pad: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    padded = x if pad is None else pad(x.detach())
    # the rows at the end that no window reached (a stride that does not divide) come back as zeros
    rest = tuple(
        (size + 2 * p - d * (kernel - 1) - 1) % s
        for size, kernel, s, p, d in zip(padded.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    )
    back = full(
        _CONV_T[weight.ndim - 2](relevance.to(weight.dtype), weight, None, stride, padding, rest, groups, dilation)
    )
    return back if pad is None else adjoint(pad, [x], back)[0]


def _deconvolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    output_padding: Any,
) -> Tensor:
    convolve_t = _CONV_T[weight.ndim - 2]
    return full(convolve_t(x.to(weight.dtype), weight, bias, stride, padding, output_padding, groups, dilation))


def _deconvolve_t(
    relevance: Tensor,
    weight: Tensor,
    x: Tensor,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    output_padding: Any,
) -> Tensor:
    return full(_CONV[weight.ndim - 2](relevance.to(weight.dtype), weight, None, stride, padding, dilation, groups))
