"""How much of the answer goes in a map's order: the mean fall of probability and of log-odds (AOPC)."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.metrics.confidence import ask
from heatproof.metrics.removal import Order, check_region, filling, turns, unordered, watch
from heatproof.models.classifier import Classifier
from heatproof.models.fused import FusedConvolutions
from heatproof.types import Heatmaps, Images, Logits, PerImage, Targets

REGIONS = 8
"""Regions along a side that are taken away for AOPC."""
LEVELS = (0.1, 0.25, 0.5)
"""Shares of the regions that are gone when the model is asked."""


def log_odds(logits: Float[Tensor, "*photos classes"], targets: Int[Tensor, "*photos"]) -> Float[Tensor, "*photos"]:
    """log p_c / (1 - p_c), from the logits, so that a probability that rounds to 1 still moves.

    **Range** (-inf, inf), in nats; for a network of one logit that logit.

    >>> log_odds(torch.tensor([[200.0, 50.0]]), torch.tensor([0])).tolist()
    [150.0]
    """
    own = logits.double().gather(-1, targets[..., None])
    if logits.shape[-1] < 2:
        return own[..., 0]
    others = logits.double().scatter(-1, targets[..., None], -torch.inf)
    return own[..., 0] - others.logsumexp(-1)


def faithfulness(
    model: Classifier,
    images: Images,
    heatmaps: Heatmaps,
    witness: Float[Tensor, "batch height width"],
    targets: Targets,
    logits: Logits,
    seed: int,
) -> dict[str, PerImage]:
    """The mean fall at :data:`LEVELS`, in the map's order, at random and in the witness's order.

    Of the probability (``aopc``, ``aopc_random``, ``aopc_witness``) and of the log-odds (the same with ``_log_odds``),
    from the same forward passes.
    """
    size = (images.shape[2], images.shape[3])
    region = max(1, -(-min(size) // REGIONS))
    ragged = bool(size[0] % region or size[1] % region)
    check_region(region, size, ragged)
    fill = filling(images, "blur", seed)
    start, odds = logits.softmax(1).gather(1, targets[:, None])[:, 0], log_odds(logits, targets)
    orders: tuple[tuple[str, Tensor, Order], ...] = (
        ("aopc", heatmaps, "most"),
        ("aopc_random", heatmaps, "random"),
        ("aopc_witness", witness, "most"),
    )
    found, fused = {}, FusedConvolutions()
    for name, maps, order in orders:
        turn = turns(maps, size, region, order, seed=seed, ragged=ragged)
        count = int(turn.amax()) + 1
        levels = [max(1, round(share * count)) for share in LEVELS]
        seen: list[Logits] = []

        def asked(mixed: Images, seen: list[Logits] = seen) -> Logits:
            seen.append(fused.run(partial(ask, model, mixed)))
            return seen[-1]

        fall = start[:, None] - watch(asked, images, fill, turn, levels, targets)
        after = torch.cat(seen).view(len(images), len(levels), -1)
        lost = odds[:, None] - log_odds(after, targets[:, None].expand(-1, len(levels)))
        without = unordered(maps, order)
        found[name] = fall.mean(1).masked_fill(without, torch.nan)
        found[f"{name}_log_odds"] = lost.mean(1).masked_fill(without, torch.nan)
    return found
