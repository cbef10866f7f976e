"""Attention that torch and torchvision hide in one call, opened in the graph into projections and attention proper.

A node of a graph is opened where it is made: in its place stand linear layers, moves and scaled dot-product attention,
which have rules. What an opening leaves out (masks of padded keys, keys beside those of the tokens) it refuses by name.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.explainers.lrp.kinds import Kind

Signal = Any
"""A proxy of the graph, or a tensor: the openings are plain functions of both."""
OPENED: tuple[Kind, ...] = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
"""Modules of torch that are walked through like the network's own, unless a composite names them."""


def opening(function: Any) -> Callable[..., Signal] | None:
    """What to call in place of a function, where it has an opening."""
    if function is F.multi_head_attention_forward:
        return multi_head_attention
    home = getattr(function, "__module__", "")
    if home == "timm.layers.attention":
        # timm hides its masks from torch.fx
        return _with_mask if function.__name__ == "maybe_add_mask" else None
    if home != "torchvision.models.swin_transformer":
        return None
    # torchvision hides the merging of patches, which only moves cells, as it hides its attention
    return {"shifted_window_attention": shifted_windows, "_patch_merging_pad": function}.get(function.__name__)


def _with_mask(scores: Signal, attn_mask: Signal = None) -> Signal:
    """timm's ``maybe_add_mask``: the scores alone where what ``resolve_self_attn_mask`` was given is no mask."""
    made = getattr(attn_mask, "node", None)
    if made is not None and getattr(made.target, "__name__", "") == "resolve_self_attn_mask":
        given = dict(zip(("seq_len", "attn", "attn_mask", "is_causal"), made.args, strict=False)) | dict(made.kwargs)
        attn_mask = attn_mask if given.get("is_causal") or given.get("attn_mask") is not None else None
    return scores if attn_mask is None else scores + attn_mask


def module_opening(module: nn.Module) -> Callable[..., Signal] | None:
    """What to call in place of a module's forward method, where it has an opening."""
    if type(module) is nn.MultiheadAttention:
        return lambda *args, **named: _attention_module(module, *args, **named)
    if type(module) is nn.TransformerEncoderLayer:
        return lambda *args, **named: _encoder_layer(module, *args, **named)
    if type(module) is nn.TransformerEncoder:
        return lambda *args, **named: _encoder(module, *args, **named)
    return None


def _attention_module(
    module: nn.MultiheadAttention,
    query: Signal,
    key: Signal,
    value: Signal,
    key_padding_mask: Signal = None,
    need_weights: bool = True,
    attn_mask: Signal = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Signal, None]:
    """``nn.MultiheadAttention``, tokens first inside."""
    same = key is query and value is query
    if module.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    key, value = (query, query) if same else (key, value)
    # None where queries, keys and values have other widths, and weights of their own
    packed: Any = module.in_proj_weight
    found, weights = multi_head_attention(
        query,
        key,
        value,
        module.embed_dim,
        module.num_heads,
        packed,
        module.in_proj_bias,
        module.bias_k,
        module.bias_v,
        module.add_zero_attn,
        module.dropout,
        module.out_proj.weight,
        module.out_proj.bias,
        key_padding_mask=key_padding_mask,
        attn_mask=attn_mask,
        use_separate_proj_weight=packed is None,
        q_proj_weight=module.q_proj_weight,
        k_proj_weight=module.k_proj_weight,
        v_proj_weight=module.v_proj_weight,
    )
    return found.transpose(0, 1) if module.batch_first else found, weights


def _encoder_layer(
    layer: nn.TransformerEncoderLayer, x: Signal, src_mask: Signal = None, src_key_padding_mask: Signal = None, **_: Any
) -> Signal:
    """``nn.TransformerEncoderLayer`` without its fused way; dropout is idle in eval mode."""

    def attend(x: Signal) -> Signal:
        return layer.self_attn(x, x, x, attn_mask=src_mask, key_padding_mask=src_key_padding_mask)[0]

    def feed(x: Signal) -> Signal:
        return layer.linear2(layer.activation(layer.linear1(x)))

    if layer.norm_first:
        x = x + attend(layer.norm1(x))
        return x + feed(layer.norm2(x))
    x = layer.norm1(x + attend(x))
    return layer.norm2(x + feed(x))


def _encoder(
    encoder: nn.TransformerEncoder, x: Signal, mask: Signal = None, src_key_padding_mask: Signal = None, **_: Any
) -> Signal:
    for layer in encoder.layers:
        x = layer(x, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return x if encoder.norm is None else encoder.norm(x)


def multi_head_attention(
    query: Signal,
    key: Signal,
    value: Signal,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Signal,
    in_proj_bias: Signal,
    bias_k: Signal,
    bias_v: Signal,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Signal,
    out_proj_bias: Signal,
    *,
    key_padding_mask: Signal = None,
    attn_mask: Signal = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Signal = None,
    k_proj_weight: Signal = None,
    v_proj_weight: Signal = None,
    static_k: Signal = None,
    static_v: Signal = None,
    **_: Any,
) -> tuple[Signal, None]:
    """``F.multi_head_attention_forward`` in eval mode: tokens, batch, width; the heads' weights are not handed out.

    Raises:
        NotImplementedError: with what is left out here: masks of padded keys, extra keys.
    """
    if bias_k is not None or bias_v is not None or add_zero_attn or static_k is not None or static_v is not None:
        raise NotImplementedError("attention with keys and values beside those of the tokens (bias_k, add_zero_attn)")
    if key_padding_mask is not None:
        raise NotImplementedError("attention with key_padding_mask")
    width = embed_dim_to_check
    biases = (None,) * 3 if in_proj_bias is None else _thirds(in_proj_bias, width)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = _thirds(in_proj_weight, width)
    parts = [F.linear(x, *both) for x, both in zip((query, key, value), zip(weights, biases, strict=True), strict=True)]
    # tokens, batch, width -> batch, heads, tokens, width of a head
    batch, cells = query.size(1), width // num_heads
    q, k, v = (x.reshape(-1, batch, num_heads, cells).permute(1, 2, 0, 3) for x in parts)
    if attn_mask is not None:
        attn_mask = _attention_mask(attn_mask, batch, num_heads)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask)
    return F.linear(found.permute(2, 0, 1, 3).reshape(-1, batch, width), out_proj_weight, out_proj_bias), None


def _thirds(packed: Signal, width: int) -> tuple[Signal, Signal, Signal]:
    return packed[:width], packed[width : 2 * width], packed[2 * width :]


def _attention_mask(mask: Signal, batch: Signal, heads: int) -> Signal:
    """True forbids in torch's multi-head attention and allows in its scaled dot-product attention."""
    if mask.ndim == 3:
        mask = mask.reshape(batch, heads, *mask.shape[1:])
    return (
        torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask
    )


def shifted_windows(
    input: Signal,
    qkv_weight: Signal,
    proj_weight: Signal,
    relative_position_bias: Signal,
    window_size: list[int],
    num_heads: int,
    shift_size: list[int],
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    qkv_bias: Signal = None,
    proj_bias: Signal = None,
    logit_scale: Signal = None,
    training: bool = False,
) -> Signal:
    """torchvision's ``shifted_window_attention`` of both Swin versions, in eval mode; sizes must be known."""
    rows, cols, width = (int(size) for size in input.shape[1:])
    window, cells = tuple(window_size), width // num_heads
    high, wide = (-(-size // side) * side for size, side in zip((rows, cols), window, strict=True))
    shift = [0 if side >= size else by for side, size, by in zip(window, (high, wide), shift_size, strict=True)]
    x = F.pad(input, (0, 0, 0, wide - cols, 0, high - rows))
    if any(shift):
        x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
    across, down = wide // window[1], high // window[0]
    x = x.reshape(-1, down, window[0], across, window[1], width).permute(0, 1, 3, 2, 4, 5)
    if logit_scale is not None and qkv_bias is not None:
        # keys of the second version have no bias
        q_bias, k_bias, v_bias = _thirds(qkv_bias, width)
        qkv_bias = torch.cat([q_bias, torch.zeros_like(k_bias), v_bias])
    x = F.linear(x.reshape(-1, down * across, window[0] * window[1], width), qkv_weight, qkv_bias)
    q, k, v = (
        x.reshape(-1, down * across, window[0] * window[1], 3, num_heads, cells).permute(3, 0, 1, 4, 2, 5).unbind(0)
    )
    scale = 1 / math.sqrt(cells)
    if logit_scale is not None:
        # the cosine of queries and keys
        q, k = F.normalize(q, dim=-1) * torch.clamp(logit_scale, max=math.log(100.0)).exp(), F.normalize(k, dim=-1)
        scale = 1.0
    bias = relative_position_bias.unsqueeze(0)
    if any(shift):
        bias = bias + apart((high, wide), window, shift)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    x = F.linear(x.transpose(2, 3).reshape(-1, down * across, window[0] * window[1], width), proj_weight, proj_bias)
    x = x.reshape(-1, down, across, *window, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, high, wide, width)
    if any(shift):
        x = torch.roll(x, shifts=tuple(shift), dims=(1, 2))
    return x[:, :rows, :cols]


def apart(size: tuple[int, ...], window: tuple[int, ...], shift: list[int]) -> Tensor:
    """-100 between cells of a window that only the roll brought together: ``[windows, 1, cells, cells]``.

    >>> apart((2, 2), (1, 2), [0, 1])[0, 0]
    tensor([[   0., -100.],
            [-100.,    0.]])
    """
    parts = torch.zeros(size)
    for axis, (side, by) in enumerate(zip(window, shift, strict=True)):
        if by:
            places = torch.arange(size[axis])
            part = (places >= size[axis] - side).float() + (places >= size[axis] - by).float()
            parts = 3 * parts + (part[:, None] if axis == 0 else part[None])
    cells = parts.reshape(size[0] // window[0], window[0], size[1] // window[1], window[1]).transpose(1, 2).flatten(2)
    cells = cells.flatten(0, 1)
    return torch.where(cells[:, None] == cells[:, :, None], 0.0, -100.0)[:, None]
