"""What a node of the graph is, said by a class: a module's own type, or the one that a function call stands for.

``F.relu``, ``x.relu_()`` and ``nn.ReLU`` are all ``nn.ReLU``; what has no module is one of the small classes here.
"""

from typing import Any

from torch import fx, nn

Kind = type[Any]


class FirstLayer:
    """A weighted layer that reads the pixels, with nothing weighted in between."""


class Add:
    """A sum or difference of two signals: a residual connection."""


class Concat:
    """Signals side by side along one dimension."""


class Gate:
    """A product of a signal and a gate computed from signals: squeeze-and-excite, ``x * sigmoid(x)``."""


class Scale:
    """A signal times, plus or over something that is no signal: a number, a parameter, a length held constant."""


class Offset(Scale):
    """A signal plus or minus something that is no signal: positions, a relative bias, a mask."""


class Move:
    """Cells moved, repeated, dropped or padded: slices, transposes, expansion."""


class Reshape:
    """The same cells in the same order under another shape."""


class Split:
    """One signal cut into several."""


class Piece:
    """One of the signals that a split made."""


class Power:
    """A power of each cell, as in StarReLU's relu(x)^2."""


class Product:
    """A matrix product of two signals: attention's queries with keys, its weights with values."""


class Mixed(Product):
    """A matrix product of attention's weights, which come out of a softmax, with values; the weights come first."""


class Attention:
    """Scaled dot-product attention of queries, keys and values in one call."""


class Beside:
    """Signals beside constants along one dimension: a class token before the patches."""


class LinearMap:
    """A product of one signal with constants: ``matmul`` or ``einsum`` with a parameter, a token-mixing matrix."""


CONVOLUTION: tuple[Kind, ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
LINEAR: tuple[Kind, ...] = (nn.Linear,)
NORM: tuple[Kind, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
STANDARDISED: tuple[Kind, ...] = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.RMSNorm,
)
"""Norms by the deviation of the signal itself."""
WEIGHTED = CONVOLUTION + LINEAR + NORM
FOLDS_NORM: tuple[Kind, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Whose first dimension of the weight is the output channel, so that a batch norm behind it can be folded in."""
RECTIFIER: tuple[Kind, ...] = (nn.ReLU, nn.ReLU6)
BOUNDED: tuple[Kind, ...] = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Tanh, nn.ReLU6, nn.Hardtanh)
"""What may close a gate."""
NONNEGATIVE: tuple[Kind, ...] = (*RECTIFIER, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus)
IDENTITY: tuple[Kind, ...] = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
ACTIVATION: tuple[Kind, ...] = (
    *RECTIFIER,
    *BOUNDED,
    nn.SiLU,
    nn.Hardswish,
    nn.GELU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.LogSigmoid,
    nn.LogSoftmax,
    Power,
)
MAXIMUM: tuple[Kind, ...] = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
AVERAGE: tuple[Kind, ...] = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Upsample,
    nn.Fold,
)
RESHAPE: tuple[Kind, ...] = (Reshape, nn.Flatten, nn.Unflatten)
MOVE: tuple[Kind, ...] = (
    Move,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReflectionPad3d,
    nn.ReplicationPad1d,
    nn.ReplicationPad2d,
    nn.ReplicationPad3d,
    nn.CircularPad1d,
    nn.CircularPad2d,
    nn.CircularPad3d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.Unfold,
)

_NAMES: dict[Kind, str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardtanh: "hardtanh clamp clip",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
    nn.LeakyReLU: "leaky_relu rrelu",
    nn.PReLU: "prelu",
    nn.ELU: "elu",
    nn.CELU: "celu",
    nn.SELU: "selu",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
    nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid",
    nn.LogSigmoid: "logsigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log_softmax",
    Power: "pow square",
    nn.Tanh: "tanh",
    nn.Identity: "contiguous clone to type_as float stochastic_depth drop_path dropout dropout1d dropout2d dropout3d "
    "alpha_dropout feature_alpha_dropout",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
    nn.Linear: "linear",
    nn.BatchNorm2d: "batch_norm",
    nn.LayerNorm: "layer_norm",
    nn.GroupNorm: "group_norm",
    nn.InstanceNorm2d: "instance_norm",
    nn.RMSNorm: "rms_norm",
    nn.MaxPool2d: "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax",
    nn.AvgPool2d: "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean "
    "sum interpolate upsample",
    nn.Fold: "fold",
    Reshape: "flatten view reshape squeeze unsqueeze unflatten view_as reshape_as",
    Scale: "normalize",
    Move: "pad permute transpose swapaxes movedim narrow select index_select expand expand_as repeat roll flip "
    "repeat_interleave pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle stack getitem unfold",
    Split: "split chunk unbind tensor_split split_with_sizes",
    Concat: "cat concat concatenate",
    LinearMap: "matmul mm bmm einsum tensordot mv",
    Attention: "scaled_dot_product_attention",
    Add: "add sub iadd isub",
    Gate: "mul multiply imul truediv div divide itruediv true_divide neg addcmul",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def function_name(node: fx.Node) -> str:
    """``relu`` for ``F.relu``, ``x.relu()`` and ``torch.relu_``: one name however it is written."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return name if name.endswith("__") else name.rstrip("_")


ATTENTION_ORDER = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
"""The arguments of scaled dot-product attention."""


def attended(node: fx.Node) -> tuple[Any, ...]:
    """Queries, keys and values of a call of scaled dot-product attention, however it is written."""
    given = dict(zip(ATTENTION_ORDER, node.args, strict=False)) | dict(node.kwargs)
    return tuple(given.get(name) for name in ATTENTION_ORDER[:3])


def kind_of(node: fx.Node, network: nn.Module) -> Kind | None:
    """The class that a node stands for; ``None`` for a function that is not known here."""
    if node.op == "call_module":
        return type(network.get_submodule(str(node.target)))
    if node.op in ("call_function", "call_method"):
        return _KINDS.get(function_name(node))
    return None


def writes_in_place(node: fx.Node, network: nn.Module) -> bool:
    """Whether the node overwrites its first argument."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name.endswith("_") and not name.endswith("__"):
        return True
    if name in ("iadd", "isub", "imul", "itruediv"):
        return True
    if "inplace" in node.kwargs:
        return bool(node.kwargs["inplace"])
    # F.relu(x, True), F.hardtanh(x, 0., 6., True): no activation takes another flag
    last = node.args[-1] if len(node.args) > 1 else None
    return last is True and _KINDS.get(name) in ACTIVATION
