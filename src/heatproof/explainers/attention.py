"""What a vision transformer attends to: the attention matrices of all blocks, multiplied up to the pixels' tokens."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from heatproof.errors import ModelError
from heatproof.explainers.lrp.openings import multi_head_attention
from heatproof.explainers.scores import Score, explained
from heatproof.models.classifier import Classifier, check_images, resolve_targets
from heatproof.models.finite import check_finite
from heatproof.models.intact import evaluating
from heatproof.models.layers import known_layouts
from heatproof.models.layout import Layout
from heatproof.types import Classes, Explanation, Heatmaps, Images, Logits, Targets, settings

Attention = Float[Tensor, "batch heads tokens tokens"]
"""Rows attend to columns; each row sums to 1."""
Mixing = Float[Tensor, "batch tokens tokens"]
"""How much of each token (column) each token (row) holds."""
_SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


@settings
class AttentionRollout:
    """How much of each patch the tokens that the head reads hold, if every block mixed tokens by its attention alone.

    R = (A_L + I)/2 ... (A_1 + I)/2 with the mean A_l of block l's heads; heatmap = the rows of R that the head reads
    (the class token's; without one the mean of all), at the tokens of the grid. The same for every class: it asks the
    attention only, not what is made of it.

    **Source** Abnar and Zuidema 2020, section 3. **Differs** rows of several tokens that the head reads are averaged,
    and which they are is found from the score's derivative, or where that is zero (a head that starts at zero) from the
    way back through the network, whatever its weights [ours].
    **Range** [0, 1], the share of a token.

    Raises:
        ModelError: the network has no attention over one sequence of all tokens (windows, growing patches, none).
    """

    signed = False
    classless = True

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        seen = attend(model, images, targets, "logit", create_graph=create_graph, every=False)
        with _exactly(images, create_graph):
            rolled = _identity(seen.attention)
            for attention in seen.attention:
                held = attention.mean(1)
                rolled = (held @ rolled + rolled) / 2
            return seen.explanation(rolled, create_graph)


@settings
class Chefer:
    """How far each patch reaches the class through the attention that speaks for it.

    R = I; from the first block to the last R <- R + mean over heads of ReLU(dy_c/dA * A) R; heatmap = the rows of R - I
    that the head reads, at the tokens of the grid.

    **Source** Chefer, Gur and Wolf 2021 (Generic Attention-model Explainability), equations 5 and 6. **Differs** rows
    of several tokens that the head reads are averaged, and which they are is found from the score's derivative [ours].
    **Range** [0, inf); the unit is not the score's.

    Args:
        score: the number that is explained (:mod:`heatproof.explainers.scores`).

    Raises:
        ModelError: the network has no attention over one sequence of all tokens (windows, growing patches, none).
    """

    score: Score = "logit"
    signed = False

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        seen = attend(model, images, targets, self.score, create_graph=create_graph)
        with _exactly(images, create_graph):
            identity = reached = _identity(seen.attention)
            for attention, slope in zip(seen.attention, seen.slopes, strict=True):
                reached = reached + (slope * attention).relu().mean(1) @ reached
            return seen.explanation(reached - identity, create_graph)


@dataclass(frozen=True)
class Attended:
    """The attention of every block, with the score's derivative there.

    Attributes:
        attention: in the order of the blocks.
        slopes: d score / d attention; of the last block only, where no other was asked for.
        read: 1 for a row of the last block's attention that the head reads, else 0.
        layout: of the tokens.
    """

    attention: Sequence[Attention]
    slopes: Sequence[Attention]
    read: Float[Tensor, "batch tokens"]
    layout: Layout
    logits: Logits
    targets: Targets

    def explanation(self, mixing: Mixing, create_graph: bool) -> Explanation:
        """The rows that the head reads, laid out as maps."""
        read = self.read.to(mixing)
        row = torch.einsum("nt,ntk->nk", read / read.sum(1, keepdim=True).clamp(min=1), mixing)
        layout = self.layout
        grid = row[:, layout.prefix : layout.prefix + layout.rows * layout.cols]
        heatmaps: Heatmaps = grid.unflatten(1, (layout.rows, layout.cols))
        heatmaps = heatmaps if create_graph else heatmaps.detach()
        return Explanation(heatmaps, self.logits if create_graph else self.logits.detach(), self.targets)


def attend(
    model: nn.Module,
    images: Images,
    targets: Classes | None,
    score: Score,
    *,
    create_graph: bool,
    every: bool = True,
) -> Attended:
    """One forward pass that keeps all attention matrices, and the score's derivative there; the network is not changed.

    Args:
        every: the derivative at every block; else at the last alone.

    Raises:
        ModelError: there is none, or not over one sequence of all tokens, or the score has no derivative there.
    """
    check_images(model, images)
    known = known_layouts(model, images).known.values()
    with torch.inference_mode(False), evaluating(model), torch.set_grad_enabled(create_graph):
        images = images.clone() if images.is_inference() else images
        opened = _Opened()
        with opened:
            logits = model(images)
        layout = _layout(model, opened.found, list(known), len(images))
        targets = resolve_targets(logits, targets, model)
        asked = opened.found if every else opened.found[-1:]
        total = explained(logits, targets, score).sum()
        slopes: Sequence[Tensor | None] = [None] * len(asked)
        if total.requires_grad:
            # torch's own types forget allow_unused
            slopes = torch.autograd.grad(
                total, asked, create_graph=create_graph, allow_unused=True, retain_graph=create_graph or not every
            )
    kept = [slope for slope in slopes if slope is not None]
    if len(kept) < len(asked):
        raise ModelError(
            f"the score of {_name(model)} does not depend on the attention of {len(asked) - len(kept)} of "
            f"{len(asked)} blocks, or the forward pass cuts the gradient; explain by gradcam() or occlusion()"
        )
    if not create_graph:
        for slope in kept:
            check_finite(slope, "the score's gradient")
    read = _read(logits, opened.found[-1], kept[-1], every)
    return Attended([_full(one) for one in opened.found], [_full(one) for one in kept], read, layout, logits, targets)


def _read(logits: Logits, last: Attention, slope: Attention, by_slope: bool) -> Float[Tensor, "batch tokens"]:
    """1 where the head reads what a row of the last attention makes, else 0.

    After the last attention tokens no longer mix: a row has a derivative just where its token is read. Weights of zero
    hide that, and not what comes back of a derivative that is no number: times zero it stays none.
    """
    read = slope.detach().abs().sum((1, 3)) > 0
    if not by_slope and not bool(read.any(1).all()):
        (back,) = torch.autograd.grad(logits, last, torch.full_like(logits, math.nan), retain_graph=True)
        read = back.detach().isnan().any(3).any(1)
    return read.to(_full(last).dtype)


@dataclass
class _Opened(TorchFunctionMode):
    """Inside, attention in one call is computed step by step, and every matrix of attention is kept.

    Where no graph is wanted one begins at the first matrix: what lies before runs as under ``no_grad``.

    Attributes:
        found: what a softmax made of products of tokens, in the order of the blocks.
    """

    found: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            try:
                with self:
                    return multi_head_attention(*args, **kwargs)
            except NotImplementedError as error:
                raise ModelError(f"{error} is not followed; explain by gradcam() or occlusion()") from error
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and result.ndim == 4 and _dimension(args, kwargs) in (-1, 3):
            return self._kept(result)
        return result

    def _kept(self, weights: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            weights = weights.detach().requires_grad_()
            torch.set_grad_enabled(True)
        self.found.append(weights)
        return weights

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """``F.scaled_dot_product_attention`` in eval mode, written out as its documentation does."""
        if enable_gqa:
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        scores = (query @ key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._kept(scores.softmax(-1)) @ value


def _dimension(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("dim", args[1] if len(args) > 1 else None)


def _layout(model: nn.Module, found: Sequence[Tensor], known: Sequence[Layout | None], batch: int) -> Layout:
    """The layout of the tokens that attend to each other in every block.

    Raises:
        ModelError: there is no such sequence.
    """
    instead = "explain by gradcam(), lrp(composite='attnlrp') or occlusion(), which need none"
    if not found:
        raise ModelError(
            f"no attention was found in {_name(model)} (torch's softmax or scaled dot-product attention over tokens); "
            f"{instead}"
        )
    for layout in known:
        if layout is None or "L" not in layout.dims:
            continue
        tokens = layout.prefix + layout.rows * layout.cols
        if all(len(one) == batch and one.shape[-2:] == (tokens, tokens) for one in found):
            return layout
    sizes = ", ".join(dict.fromkeys(f"{one.shape[-2]}x{one.shape[-1]}" for one in found))
    raise ModelError(
        f"the attention of {_name(model)} is not over one sequence of all tokens in every block (found {sizes}: "
        f"windows, pooled keys, or attention over channels), so its matrices cannot be multiplied; {instead}"
    )


@contextmanager
def _exactly(images: Images, create_graph: bool) -> Generator[None]:
    """Autocast is for the network: products of attention are taken in full precision, with a graph only on request."""
    off = torch.autocast(images.device.type, enabled=False)
    with off, torch.inference_mode(False), torch.set_grad_enabled(create_graph):
        yield


def _identity(attention: Sequence[Attention]) -> Mixing:
    first = attention[0]
    return torch.eye(first.shape[-1]).to(first).expand(len(first), -1, -1)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _name(model: nn.Module) -> str:
    return model.name if isinstance(model, Classifier) else type(model).__name__
