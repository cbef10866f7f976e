"""What each of torch's operators does to the rows and columns of what it is given.

An operator without a rule puts out neither: nothing is guessed from sizes.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

from torch import Tensor

from heatproof.models.axes import (
    COLS,
    OTHER,
    ROWS,
    Atom,
    Axes,
    Dim,
    Segment,
    along,
    is_other,
    length,
    met,
    other,
    resized,
    sole,
    whole,
)


class Followed(Protocol):
    """The axes of tensors, as far as they are known."""

    def full(self, tensor: Tensor) -> Axes: ...

    def joined(self, tensors: Sequence[Tensor], shape: Sequence[int]) -> Axes: ...


def _planes(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    """The last two dimensions have another size, and the channels may."""
    source = given["self"] if "self" in given else given["input"]
    axes = follow.full(source)
    found = []
    for output in outputs:
        dims = [resized(dim, size) for dim, size in zip(axes, output.shape, strict=True)]
        if output.ndim > 2 and output.shape[-3] != source.shape[-3]:
            dims[-3] = other(output.shape[-3])
        found.append(tuple(dims))
    return found


def _convolved(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes, weight, size = follow.full(given["input"]), given["weight"], outputs[0].shape
    # channels stay themselves only where each is convolved alone
    alone = given["groups"] == axes[1][0][0].size == size[1] if axes[1][0] else False
    dims = [axes[0], axes[1] if alone else other(size[1])]
    for dim, cells, kernel in zip(axes[2:], size[2:], weight.shape[2:], strict=True):
        # a convolution along a token sequence runs over the ends of the grid's rows
        dims.append(resized(dim, cells) if sole(dim) or kernel == 1 or is_other(dim) else other(cells))
    return [tuple(dims)]


def _permuted(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes = follow.full(given["self"])
    return [tuple(axes[place] for place in given["dims"])]


def _transposed(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    dims = list(follow.full(given["self"]))
    one, two = given.get("dim0", 0), given.get("dim1", 1)
    dims[one], dims[two] = dims[two], dims[one]
    return [tuple(dims)]


def _squeezed(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    source, axes = given["self"], follow.full(given["self"])
    wanted = given.get("dim", range(source.ndim))
    wanted = [wanted] if isinstance(wanted, int) else list(wanted)
    dropped = {place % source.ndim for place in wanted if source.shape[place] == 1}
    return [tuple(dim for place, dim in enumerate(axes) if place not in dropped)]


def _unsqueezed(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    dims = list(follow.full(given["self"]))
    dims.insert(given["dim"] % outputs[0].ndim, other(1))
    return [tuple(dims)]


def _stretched(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    return [follow.joined([given["self"]], outputs[0].shape)]


def _repeated(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes, times = follow.full(given["self"]), list(given["repeats"])
    axes = (*[other(1)] * (len(times) - len(axes)), *axes)
    sizes = outputs[0].shape
    return [tuple(dim if n == 1 else other(size) for dim, n, size in zip(axes, times, sizes, strict=True))]


def _selected(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes = follow.full(given["self"])
    drop = given["dim"] % len(axes)
    rest = tuple(dim for place, dim in enumerate(axes) if place != drop)
    return [rest for _ in outputs]


def _sliced(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    dims = list(follow.full(given["self"]))
    place = given["dim"] % len(dims)
    start, stop, step = slice(given["start"], given["end"], given["step"]).indices(given["self"].shape[place])
    dims[place] = _part(dims[place], start, stop, step)
    return [tuple(dims)]


def _part(dim: Dim, start: int, stop: int, step: int) -> Dim:
    size = sum(map(length, dim))
    left = len(range(start, stop, step))
    if left == size:
        return dim
    atom = sole(dim)
    if atom:
        # nearly all of the axis, perhaps every other place, is still the axis; a corner of the image is not
        return ((along(atom.axis, left),),) if left * step >= 0.75 * size else other(left)
    found: list[Segment] = []
    at = 0
    for segment in dim:
        first, last = max(start, at), min(stop, at + length(segment))
        at += length(segment)
        if last > first:
            whole = last - first == length(segment) and step == 1
            found.append(segment if whole else other(len(range(first, last, step)))[0])
    return tuple(found) if sum(map(length, found)) == left else other(left)


def _split(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes = follow.full(given["self"])
    place, at = given["dim"] % len(axes), 0
    found: list[Axes | None] = []
    for output in outputs:
        dims = list(axes)
        dims[place] = _part(dims[place], at, at + output.shape[place], 1)
        at += output.shape[place]
        found.append(tuple(dims))
    return found


def _cat(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    tensors = [tensor for tensor in given["tensors"] if tensor.numel()]
    place = given["dim"] % tensors[0].ndim
    dims = []
    for at, size in enumerate(outputs[0].shape):
        parts = [follow.full(tensor)[at] for tensor in tensors]
        if at != place:
            shared = other(size)
            for part in parts:
                shared = met(shared, part)
            dims.append(shared)
        else:
            joined = tuple(segment for part in parts for segment in part)
            dims.append(other(size) if is_other(joined) else joined)
    return [tuple(dims)]


def _stacked(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    dims = list(follow.joined(given["tensors"], given["tensors"][0].shape))
    dims.insert(given["dim"] % outputs[0].ndim, other(len(given["tensors"])))
    return [tuple(dims)]


def _rolled(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    dims = list(follow.full(given["self"]))
    if not given["dims"]:
        return []
    for place, shift in zip(given["dims"], given["shifts"], strict=True):
        dim = dims[place]
        if len(dim) == 1 and len(dim[0]) == 1 and (sole(dim) or dim[0][0].shift):
            atom = sole(dim) or dim[0][0]
            dims[place] = ((atom._replace(shift=(atom.shift + shift) % atom.size),),)
        elif not is_other(dim):
            dims[place] = other(sum(map(length, dim)))
    return [tuple(dims)]


def _reduced(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes = follow.full(given["self"])
    wanted = given.get("dim")
    if wanted is None or wanted == []:
        return []
    gone = {place % len(axes) for place in ([wanted] if isinstance(wanted, int) else wanted)}
    if given["keepdim"]:
        left = tuple(other(1) if place in gone else dim for place, dim in enumerate(axes))
    else:
        left = tuple(dim for place, dim in enumerate(axes) if place not in gone)
    return [left for _ in outputs]


def _multiplied(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    """Matrices: rows of the first, columns of the second; the batch of both."""
    first, second = ("batch1", "batch2") if "batch2" in given else ("mat1", "mat2")
    one, two = given[first if first in given else "self"], given[second]
    left, right = follow.full(one), follow.full(two)
    batch = tuple(met(a, b) for a, b in zip(left[:-2], right[:-2], strict=True))
    return [(*batch, left[-2], right[-1])]


def _linear(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    return [(*follow.full(given["input"])[:-1], other(outputs[0].shape[-1]))]


def _attended(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    query, value = follow.full(given["query"]), follow.full(given.get("value", given["query"]))
    batch = tuple(met(a, b) for a, b in zip(query[:-2], value[:-2], strict=True))
    return [(*batch, query[-2], other(outputs[0].shape[-1]))]


def _encoded(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    return [follow.full(given["src"])]


def _unfolded(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    """im2col: patches of all channels by the grid of places."""
    axes, size = follow.full(given["self"]), outputs[0].shape
    sides = []
    for place, cells in enumerate(given["self"].shape[-2:]):
        kernel, dilation = given["kernel_size"][place], given["dilation"][place]
        padded = cells + 2 * given["padding"][place] - dilation * (kernel - 1) - 1
        sides.append(padded // given["stride"][place] + 1)
    if not (sole(axes[-2]) and sole(axes[-1])):
        return []
    return [(axes[0], other(size[1]), ((along(ROWS, sides[0]), along(COLS, sides[1])),))]


def _folded(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    axes, size = follow.full(given["self"]), outputs[0].shape
    grid = axes[-1][0] if len(axes[-1]) == 1 else ()
    if [atom.axis for atom in grid if whole(atom)] != [ROWS, COLS]:
        return []
    return [(axes[0], other(size[1]), ((along(ROWS, size[-2]),),), ((along(COLS, size[-1]),),))]


def _regrouped(follow: Followed, given: dict[str, Any], outputs: list[Tensor]) -> list[Axes | None]:
    """A view: atoms are split and fused, and never reordered."""
    axes, old, new = follow.full(given["self"]), list(given["self"].shape), list(outputs[0].shape)
    dims: list[Dim] = []
    i = 0
    j = 0
    while j < len(new):
        first, last = i, j
        i, j = min(i + 1, len(old)), j + 1
        while prod(old[first:i]) != prod(new[last:j]):
            if prod(old[first:i]) < prod(new[last:j]):
                i += 1
            else:
                j += 1
        dims += _allotted(axes[first:i], new[last:j])
    return [tuple(dims)]


def _allotted(group: Axes, sizes: list[int]) -> list[Dim]:
    if len(group) == len(sizes) == 1:
        return [group[0]]
    several = [place for place, dim in enumerate(group) if len(dim) > 1]
    if several:
        # a class token and a grid in one dimension stay together, or are lost
        rest = [dim for dim in group if sum(map(length, dim)) > 1]
        if len(rest) == 1 and sum(size > 1 for size in sizes) == 1:
            return [rest[0] if size > 1 else other(1) for size in sizes]
        return [other(size) for size in sizes]
    atoms = [atom for dim in group for atom in dim[0] if atom.size > 1]
    dims: list[Dim] = []
    for size in sizes:
        taken: list[Atom] = []
        while size > 1:
            atom = atoms.pop(0)
            if size % atom.size == 0:
                taken.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                inner = atom.size // size
                taken.append(atom._replace(size=size, stride=atom.stride * inner))
                atoms.insert(0, atom._replace(size=inner))
                size = 1
            else:
                return [other(size) for size in sizes]
        dims.append((_fused(taken),))
    return dims


def _fused(atoms: list[Atom]) -> Segment:
    fused: list[Atom] = []
    for atom in atoms:
        last = fused[-1] if fused else None
        if last and last.axis == atom.axis == OTHER:
            fused[-1] = Atom(OTHER, last.size * atom.size)
        elif last and last[3:] == atom[3:] and last.axis == atom.axis and last.stride == atom.stride * atom.size:
            fused[-1] = atom._replace(size=last.size * atom.size)
        else:
            fused.append(atom)
    return tuple(fused)


Rule = Callable[[Followed, dict[str, Any], list[Tensor]], list[Axes | None]]


def _for(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_ELEMENT_WISE = """
alias clone contiguous copy_ detach dropout alpha_dropout lift_fresh native_dropout _to_copy native_layer_norm
native_group_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training batch_norm
cudnn_batch_norm miopen_batch_norm _batch_norm_with_update layer_norm group_norm rms_norm _fused_rms_norm _softmax
_safe_softmax _log_softmax native_channel_shuffle channel_shuffle masked_fill masked_fill_ where elu elu_ celu celu_
selu selu_ gelu gelu_ hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_
log_sigmoid mish mish_ prelu _prelu_kernel relu relu_ relu6 relu6_ rrelu rrelu_with_noise silu silu_ softplus
threshold threshold_ sigmoid_ tanh_ clamp_ clamp_min_ clamp_max_ add_ sub_ mul_ div_ pow_ sqrt_ rsqrt_ exp_ neg_ abs_
"""
SAME = set(_ELEMENT_WISE.split())
"""Operators that are element-wise but for a normalisation, beside those that torch itself marks as such."""
_PLANES = """
max_pool2d_with_indices max_pool2d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d
upsample_bilinear2d upsample_nearest2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
_upsample_nearest_exact2d reflection_pad2d replication_pad2d constant_pad_nd pixel_shuffle pixel_unshuffle
"""
_ATTENTION = """
scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
_scaled_dot_product_fused_attention_overrideable _native_multi_head_attention
"""
RULES: dict[str, Rule] = {
    **_for(_planes, _PLANES),
    **_for(_reduced, "mean sum amax amin var std max min linalg_vector_norm norm logsumexp var_mean std_mean"),
    **_for(_convolved, "convolution _convolution mkldnn_convolution cudnn_convolution"),
    **_for(_regrouped, "view _unsafe_view reshape _reshape_alias view_copy"),
    **_for(_multiplied, "mm addmm bmm baddbmm"),
    **_for(_split, "split split_with_sizes unsafe_split unsafe_split_with_sizes"),
    **_for(_selected, "select unbind"),
    **_for(_transposed, "transpose t"),
    **_for(_attended, _ATTENTION),
    "permute": _permuted,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "expand": _stretched,
    "repeat": _repeated,
    "slice": _sliced,
    "cat": _cat,
    "stack": _stacked,
    "roll": _rolled,
    "linear": _linear,
    "_transformer_encoder_layer_fwd": _encoded,
    "im2col": _unfolded,
    "col2im": _folded,
}
