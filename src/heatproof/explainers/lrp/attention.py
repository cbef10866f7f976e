"""The rules of attention, after Achtibat et al. 2024 (AttnLRP): products of signals, softmax, and both in one call.

LRP is patented for commercial use, as the authors of LRP eXplains Transformers say; whoever uses it so should ask.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heatproof.explainers.lrp.affine import Call, full, live_adjoint
from heatproof.explainers.lrp.kinds import ATTENTION_ORDER, attended
from heatproof.explainers.lrp.rules import Shares, pass_on, stabilized


def product(layer: Call, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_A = A * ((R_O / (2 O + stabilizer)) B^T), R_B = B * (A^T (R_O / (2 O + stabilizer))) for O = A B.

    **Source** Achtibat et al. 2024, proposition 3.3.
    """
    ratio = relevance / stabilized(2 * layer.function(*inputs), stabilizer)
    return [x * back for x, back in zip(inputs, live_adjoint(layer.function, inputs, ratio), strict=True)]


def halves(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """Half to each factor of a product of two signals cell by cell; all to the signal that a smaller gate scales.

    **Source** Achtibat et al. 2024, section 3.3.2 (the uniform rule); a gate Arras et al. 2019.
    """
    if len(inputs) == 1:
        return pass_on(layer, inputs, relevance)
    whole = [x.shape == relevance.shape for x in inputs]
    if whole[0] == whole[1]:
        return [(relevance / 2).sum_to_size(x.shape) for x in inputs]
    return [relevance if takes else None for takes in whole]


def softmax(layer: Call, inputs: Sequence[Tensor], relevance: Tensor) -> Shares:
    """R_x = x * (R_s - s sum R_s), the sum over the softmax's dimension; inputs of minus infinity get 0.

    **Source** Achtibat et al. 2024, proposition 3.1.
    """
    (x,) = inputs
    dim: Any = getattr(layer.module, "dim", None) if layer.module is not None else None
    if dim is None:
        dim = layer.node.kwargs.get("dim", layer.node.args[1] if len(layer.node.args) > 1 else -1)
    return _softmax(x, x.softmax(dim), relevance, dim)


def attention(layer: Call, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """Scaled dot-product attention opened: the product with the values, the softmax, the product of queries and keys.

    Keys and values that several heads share (grouped queries) are handed the sum of theirs. Of a product with something
    that is no signal (a learned query) all relevance is the signal's.

    **Source** Achtibat et al. 2024, section 3.3. **Differs** a factor that is no signal: they have none.
    """
    asked, held, value = _roles(layer, inputs)
    query, key, values = asked, _grouped(layer, asked, held), _grouped(layer, asked, value)
    scaled, mask = _scores(layer, query, key)
    scores = _masked(scaled, mask)
    weights = scores.softmax(-1)
    weigh = sum(_is_signal(layer, place) for place in (0, 1))
    ratio = relevance / stabilized((1 + bool(weigh)) * (weights @ values), stabilizer)
    found: dict[int, Tensor] = {2: values * (weights.transpose(-2, -1) @ ratio)}
    if weigh:
        of_scores = _softmax(scores, weights, weights * (ratio @ values.transpose(-2, -1)), -1)
        if mask is not None and mask.dtype != torch.bool:
            # a bias takes its share
            of_scores = scaled * (of_scores / stabilized(scores, stabilizer))
        ratio = of_scores / stabilized(weigh * (query @ key.transpose(-2, -1)), stabilizer)
        found |= {0: query * (ratio @ key), 1: key * (ratio.transpose(-2, -1) @ query)}
    given = (asked, held, value)
    return [_ungrouped(found[place], given[place]) for place in range(3) if _is_signal(layer, place)]


def mixed(layer: Call, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """R_V = V * (A^T (R_O / (O + stabilizer))) for O = A V: the weights A are held constant and get nothing.

    In a derivative of the map they move, as they should.

    **Source** Ali et al. 2022, section 3.1.
    """
    weights, value = inputs
    ratio = relevance / stabilized(layer.function(weights, value), stabilizer)
    (back,) = live_adjoint(lambda one: layer.function(weights, one), [value], ratio)
    return [None, value * back]


def held(layer: Call, inputs: Sequence[Tensor], relevance: Tensor, *, stabilizer: float) -> Shares:
    """:func:`mixed` for scaled dot-product attention in one call: all to the values, nothing to queries and keys.

    **Source** Ali et al. 2022, section 3.1.
    """
    asked, keys, value = _roles(layer, inputs)
    weights = _masked(*_scores(layer, asked, _grouped(layer, asked, keys))).softmax(-1)
    values = _grouped(layer, asked, value)
    ratio = relevance / stabilized(weights @ values, stabilizer)
    return [*(None for _ in inputs[1:]), _ungrouped(values * (weights.transpose(-2, -1) @ ratio), value)]


HOLDING = (mixed, held)
"""Rules that hand relevance to the last of their inputs alone."""


def _given(layer: Call) -> dict[str, Any]:
    return dict(zip(ATTENTION_ORDER, layer.arguments, strict=False)) | dict(layer.named)


def _is_signal(layer: Call, place: int) -> bool:
    return attended(layer.node)[place] in layer.signals


def _roles(layer: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Queries, keys and values: signals as they are handed in, constants as the call has them."""
    signals, given = iter(inputs), _given(layer)
    return [
        next(signals) if _is_signal(layer, place) else full(given[name])
        for place, name in enumerate(ATTENTION_ORDER[:3])
    ]


def _grouped(layer: Call, query: Tensor, held: Tensor) -> Tensor:
    """Keys or values with a head for each head of the queries."""
    if not _given(layer).get("enable_gqa"):
        return held
    return held.repeat_interleave(query.shape[-3] // held.shape[-3], -3)


def _ungrouped(share: Tensor, held: Tensor) -> Tensor:
    """What heads that share their keys or values are handed together; a stretched batch likewise."""
    if share.ndim > 2 and held.ndim > 2 and share.shape[-3] != held.shape[-3] > 1:
        share = share.unflatten(-3, (held.shape[-3], -1)).sum(-3)
    return share.sum_to_size(held.shape)


def _scores(layer: Call, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor | None]:
    """The scaled products of queries and keys, and the mask: a boolean one that allows, or numbers that are added."""
    given = _given(layer)
    scale = given.get("scale")
    scaled = (1 / math.sqrt(query.shape[-1]) if scale is None else scale) * (query @ key.transpose(-2, -1))
    if given.get("is_causal"):
        return scaled, torch.ones(scaled.shape[-2:], dtype=torch.bool, device=scaled.device).tril()
    return scaled, given.get("attn_mask")


def _masked(scaled: Tensor, mask: Tensor | None) -> Tensor:
    """What the softmax is taken of."""
    if mask is None:
        return scaled
    return scaled.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scaled + mask


def _softmax(x: Tensor, s: Tensor, relevance: Tensor, dim: int) -> Tensor:
    return x.masked_fill(x == -math.inf, 0) * (relevance - s * relevance.sum(dim, keepdim=True))
