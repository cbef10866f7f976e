"""The rules: ``(layer, inputs, relevance) -> relevance``, each as short as its equation, on the live weights.

``layer`` is an :class:`~heatproof.explainers.lrp.affine.Affine` (convolution, linear, batch norm: x -> W x + b) or a
:class:`~heatproof.explainers.lrp.affine.Call` (anything else); a rule returns one relevance per input, ``None`` for an
input that gets none. R_k is the relevance of output k, R_j that of input j, z_k the output.

With gradients on, nothing here is detached except the routing of maxima and the signs, which are piecewise constant.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heatproof.errors import LayerError
from heatproof.explainers.lrp.affine import Affine, Call, adjoint
from heatproof.explainers.lrp.norms import Standard

Shares = Tensor | Sequence[Tensor | None]
Pairs = list[tuple[Tensor, Tensor]]
TINY = 1e-12
"""In place of a sum of shares that is zero."""


def epsilon(layer: Affine, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_j = x_j sum_k w_kj R_k / (z_k + stabilizer * sign z_k), with sign 0 = 1 and z including the bias.

    **Source** Bach et al. 2015, eq. 58.
    """
    (x,) = inputs
    z = stabilized(layer.output(x), stabilizer)
    return times(layer.transpose(over(relevance, z), layer.weight, x), x)


def z_plus(
    layer: Affine, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float, bias: bool = False
) -> Shares:
    """R_j = sum_k (x_j w_kj)+ / z_k+ R_k: alpha-beta with alpha = 1 and beta = 0.

    z+ sums the positive products; ``bias``: and the positive part of the bias.

    **Source** Bach et al. 2015, eq. 60; without the bias Lapuschkin et al. 2017. **Differs** a negative output into
    which nothing positive went is shared out in proportion to its negative products, where the formula loses it. An
    output that is positive by its bias alone does lose its relevance.
    """
    (x,) = inputs
    positive = products(layer, x, 1)
    if layer.rectified:
        # only positive outputs have relevance: from something positive, or else from the bias
        return share(layer, positive, over(relevance, total(layer, positive, offset(layer, bias, 1, stabilizer))))
    z = total(layer, positive, offset(layer, bias, 1))
    lone = (z == 0) & (relevance != 0)
    found = share(layer, positive, over(relevance, z + stabilizer))
    if not bool(lone.any()):
        return found
    negative = products(layer, x, -1)
    lone = lone & (total(layer, negative, layer.bias) < 0)
    return found + share(layer, negative, over(relevance * lone, total(layer, negative) - stabilizer))


def alpha_beta(
    layer: Affine,
    inputs: Sequence[Tensor],
    relevance: Tensor,
    *,
    alpha: float,
    beta: float,
    stabilizer: float,
    bias: bool = False,
) -> Shares:
    """R_j = sum_k (alpha * (x_j w_kj)+ / z_k+ - beta * (x_j w_kj)- / z_k-) R_k, with alpha - beta = 1.

    z+ sums the positive products, z- the negative; ``bias``: its positive (negative) part belongs to z+ (z-).

    **Source** Bach et al. 2015, eq. 60; without the bias Lapuschkin et al. 2017. **Differs** where an output has
    products of one sign only, that side takes all of its relevance, so that none is lost or doubled.
    """
    if beta == 0:
        return z_plus(layer, inputs, relevance, stabilizer=stabilizer, bias=bias)
    (x,) = inputs
    positive, negative = products(layer, x, 1), products(layer, x, -1)
    above = total(layer, positive, offset(layer, bias, 1))
    below = total(layer, negative, offset(layer, bias, -1))
    up = torch.where(below == 0, relevance, alpha * relevance)
    down = torch.where(above == 0, relevance, -beta * relevance)
    return share(layer, positive, over(up, above + stabilizer)) + share(layer, negative, over(down, below - stabilizer))


def gamma(
    layer: Affine, inputs: Sequence[Tensor], relevance: Tensor, *, gamma: float, stabilizer: float, bias: bool = True
) -> Shares:
    """R_j = sum_k (c_kj + gamma * c_kj^s) / sum_j (...) R_k, with c_kj = x_j w_kj and s the sign of z_k.

    c^s keeps the products of the output's own sign: for x >= 0 and z > 0 this is w + gamma * w+ in place of w.

    **Source** Montavon et al. 2019, table 10.1. **Differs** the sign, which their x >= 0 behind a ReLU does not need.
    """
    (x,) = inputs
    z = layer.output(x) if bias else layer.forward(x, layer.weight, None)
    parts = {sign: products(layer, x, sign) for sign in (1, -1)}
    favoured = torch.where(z >= 0, *(total(layer, parts[sign], offset(layer, bias, sign)) for sign in (1, -1)))
    ratio = relevance / stabilized(z + gamma * favoured, stabilizer)
    up, down = (gamma * ratio * keep for keep in (z >= 0, z < 0))
    return share(layer, [(x, layer.weight)], ratio) + share(layer, parts[1], up) + share(layer, parts[-1], down)


def z_box(layer: Affine, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_j = sum_k (x_j w_kj - l_j w_kj+ - h_j w_kj-) / sum_j (...) R_k for pixels between l and h.

    **Source** Montavon et al. 2017, eq. 14 (the z^B rule); l and h are black and white after the normalisation.

    Raises:
        LayerError: for a network without a Classifier around it, whose pixel range is not known.
    """
    (x,) = inputs
    if layer.bounds is None:
        raise LayerError(
            f"the z-box rule of layer {layer.name!r} needs the range of the pixels; put the network into a Classifier"
        )
    low, high = (bound.expand_as(x) for bound in layer.bounds)
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    pairs = [(x, layer.weight), (-low, plus), (-high, minus)]
    return share(layer, pairs, relevance / stabilized(total(layer, pairs), stabilizer))


def flat(layer: Affine, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """R_j = sum_k R_k / n_k, the n_k inputs that output k sees share equally: a map of the layer above.

    **Source** Lapuschkin et al. 2019.
    """
    return w_square(layer._replace(weight=torch.ones_like(layer.weight)), inputs, relevance)


def w_square(layer: Affine, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """R_j = sum_k w_kj^2 / sum_j w_kj^2 R_k: whatever the input was.

    **Source** Montavon et al. 2017, eq. 12.
    """
    (x,) = inputs
    weight, ones = layer.weight**2, torch.ones_like(x[:1])
    return layer.transpose(over(relevance, layer.forward(ones, weight, None).clamp(min=TINY)), weight, x)


def standardised(layer: Standard, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_j = x_j sum_k w_kj R_k / (z_k + stabilizer * sign z_k): epsilon on a norm whose deviation is held constant.

    z = w (x - mean) / deviation + b is then linear in x. In a derivative of the map the deviation moves, as it should.

    **Source** Ali et al. 2022, eq. 9 (the deviation is held constant); Achtibat et al. 2024, proposition 3.4.
    """
    (x,) = inputs
    return layer.transpose(relevance / stabilized(layer.output(x), stabilizer), x) * x


def by_sign(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """R_j = sum_k (c_kj)^s / sum_j (c_kj)^s R_k: in proportion to the parts that have the sign of their sum.

    For residual additions and average pooling. Behind a ReLU these are the positive parts.

    **Source** Heo et al. 2019 (positive parts). **Differs** where the sum is negative: they have no share to give
    there and lose the relevance, which happens where no ReLU follows (MobileNetV2's linear bottlenecks).
    """
    if all(layer.nonnegative):
        return [x * back for back, x in zip(_back(layer, inputs, relevance), inputs, strict=True)]
    above = [x.clamp(min=0) for x in inputs]
    if layer.rectified:
        return [x * back for back, x in zip(_back(layer, above, relevance), above, strict=True)]
    below = [x.clamp(max=0) for x in inputs]
    positive = layer.function(*above) + layer.function(*below) >= 0
    return [
        x * up + y * down
        for x, y, up, down in zip(
            above,
            below,
            _back(layer, above, relevance * positive),
            _back(layer, below, relevance * ~positive),
            strict=True,
        )
    ]


def joined_by_sign(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """:func:`by_sign` for a + b (or a - b), written out, since a residual network adds large maps often."""
    one, other = layer.terms(inputs)
    if not layer.rectified:
        sign = torch.where(one + other >= 0, 1.0, -1.0).to(one.dtype)
        one, other = one * sign, other * sign
    # behind a ReLU only positive sums have relevance
    one = one.clamp(min=0)
    if not (other is inputs[1] and layer.nonnegative[1]):
        other = other.clamp(min=0)
    ratio = over(relevance, (one + other).clamp_(min=TINY))
    shares = times(one, ratio), times(ratio, other)
    return [part.sum_to_size(x.shape) for part, x in zip(shares, inputs, strict=True)]


def proportional(layer: Call, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_j = sum_k c_kj / (z_k + stabilizer * sign z_k) R_k: the epsilon rule of sums and average pooling.

    **Source** Bach et al. 2015, eq. 58.
    """
    z = layer.function(*inputs)
    back = adjoint(layer.function, inputs, relevance / stabilized(z, stabilizer))
    return [x * share for share, x in zip(back, inputs, strict=True)]


def winner(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """All relevance of a maximum goes to the cell that is the maximum, the first of equal ones.

    **Source** Bach et al. 2015, section 2.4 (the limit of their sum pooling); Heo et al. 2019.
    """
    return adjoint(layer.function, inputs, relevance)


def pass_on(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """R_j = R_k, cell by cell: activations, dropout, multiplication by a constant, batch norm where it passes."""
    (x,) = inputs
    return relevance if relevance.shape == x.shape else relevance.sum_to_size(x.shape)


def reshape(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """The same relevance in the shape of the input."""
    return relevance.reshape(inputs[0].shape)


def move(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """Relevance goes back to where its cell came from; copies add up, padding keeps what it got."""
    return adjoint(layer.function, inputs, relevance)


def piece(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """One of the signals that a split made: its relevance waits in its place until the split's turn comes."""
    raise NotImplementedError("the walk puts pieces together")  # pragma: no cover - it has this name in tables only


def concat(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """Each input gets its own slice."""
    arguments: dict[Any, Any] = dict(enumerate(layer.node.args)) | dict(layer.node.kwargs)
    dim = arguments.get("dim", arguments.get("axis", arguments.get(1, 0)))
    return relevance.split([x.shape[dim] for x in inputs], dim)


def gate(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """The signal takes all, its gate nothing: a gate says how much passes, not what.

    **Source** Arras et al. 2019 (LRP for gated recurrent nets: signal-take-all).

    Raises:
        LayerError: where neither of two signals is a bounded activation or of a smaller shape than the other.
    """
    if len(inputs) == 1:
        return pass_on(layer, inputs, relevance)
    whole = [x.shape == relevance.shape for x in inputs]
    if whole[0] == whole[1]:
        raise LayerError(
            f"{layer.name} multiplies two signals of shape {list(inputs[0].shape)}; LRP needs to know which is the "
            "gate: let it end in a sigmoid, or make it a module with a rule (heatproof.explainers.lrp.composites)"
        )
    return [relevance if takes else None for takes in whole]


def stabilized(z: Tensor, stabilizer: float) -> Tensor:
    """z pushed away from zero, with sign 0 = 1."""
    return z.new_tensor(stabilizer).copysign(z.detach()).add_(z)


def over(relevance: Tensor, fresh: Tensor) -> Tensor:
    """relevance / fresh; without a graph in place, since a large new tensor costs more than the division."""
    if torch.is_grad_enabled() or relevance.shape != fresh.shape:
        return relevance / fresh
    return torch.div(relevance, fresh, out=fresh)


def times(fresh: Tensor, x: Tensor) -> Tensor:
    """fresh * x; without a graph in place."""
    return fresh * x if torch.is_grad_enabled() or fresh.shape != x.shape else fresh.mul_(x)


def products(layer: Affine, x: Tensor, sign: int) -> Pairs:
    """The pairs (part of x, part of w) whose products have ``sign``."""
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    if layer.nonnegative:
        return [(x, plus if sign > 0 else minus)]
    above, below = x.clamp(min=0), x.clamp(max=0)
    return [(above, plus), (below, minus)] if sign > 0 else [(above, minus), (below, plus)]


def offset(layer: Affine, bias: bool, sign: int, stabilizer: float = 0) -> Tensor | None:
    """What is added to each output: the bias's part of that sign, and the stabilizer."""
    added = None
    if bias and layer.bias is not None:
        added = layer.bias.clamp(min=0) if sign > 0 else layer.bias.clamp(max=0)
    if stabilizer:
        added = layer.weight.new_full((layer.outputs,), stabilizer) if added is None else added + stabilizer
    return added


def total(layer: Affine, pairs: Pairs, added: Tensor | None = None) -> Tensor:
    """The sum of the products, and what is added to each output."""
    z = layer.forward(*pairs[0], added)
    for x, weight in pairs[1:]:
        z = z.add_(layer.forward(x, weight, None))
    return z


def share(layer: Affine, pairs: Pairs, ratio: Tensor) -> Tensor:
    """sum over the pairs of x * W^T ratio: what each input gets."""
    x, weight = pairs[0]
    found = times(layer.transpose(ratio, weight, x), x)
    for x, weight in pairs[1:]:
        found = found + times(layer.transpose(ratio, weight, x), x)
    return found


def _back(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> list[Tensor]:
    z = layer.function(*inputs)
    return adjoint(layer.function, inputs, relevance / torch.where(z == 0, 1.0, z))
