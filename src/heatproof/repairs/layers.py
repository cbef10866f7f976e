"""From which layer on a repair trains: lies are cheapest in the last layers before the map, and so are repairs."""

from collections.abc import Sequence

import torch
from torch import nn

from heatproof.models.intact import evaluating
from heatproof.models.layers import find_layer, layer_name, network_of
from heatproof.training.split_at import split_at
from heatproof.types import AtLayer, Explainer, Images

SHARES = (1 / 3, 2 / 3)
"""Of the convolutions up to the explained layer."""


def beginnings(model: nn.Module, explainer: Explainer, images: Images, shares: Sequence[float] = SHARES) -> list[str]:
    """Layers before which the last third, and the last two thirds, of the convolutions up to the map lie.

    Of the layers near there, one at which the network can be cut in two is taken: then what lies before need be
    computed only once.

    >>> import heatproof as hp
    >>> beginnings(hp.load("demo"), hp.GradCAM(), torch.zeros(1, 3, 64, 64))
    ['stage6', 'stage3']
    """
    order = in_order(model, images[:1])
    end = len(order)
    if isinstance(explainer, AtLayer):
        name = layer_name(model, explainer.layer, images[:1])
        # pixels are no module; a map of theirs is explained through all layers
        held = set() if name == "pixels" else set(find_layer(model, name).modules())
        inside = [place for place, (_, module) in enumerate(order) if module in held]
        end = max(inside) + 1 if inside else end
    weighted = [place for place in range(end) if isinstance(order[place][1], nn.Conv2d | nn.Linear)]
    names = [_outermost(model, order, place) for place in weighted]
    found: list[str] = []
    for share in shares:
        wanted = len(names) - max(1, round(share * len(names)))
        near = sorted(range(len(names)), key=lambda place: (abs(place - wanted), place))[:5]
        cut = next((place for place in near if split_at(model, names[place]) is not None), wanted)
        if names and names[cut] not in found:
            found.append(names[cut])
    return found


def in_order(model: nn.Module, image: Images) -> list[tuple[str, nn.Module]]:
    """The modules without members, in the order in which they are first called."""
    network = network_of(model)
    called: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module) -> None:
        called.setdefault(name, module)

    hooks = [
        module.register_forward_pre_hook(lambda module, args, name=name: note(name, module))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(called.items())


def _outermost(model: nn.Module, order: Sequence[tuple[str, nn.Module]], place: int) -> str:
    """The largest layer that begins with this one."""
    name = order[place][0]
    begun = {".".join(parts) for other, _ in order[:place] for parts in _beginnings_of(other)}
    parts = name.split(".")
    holders = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next(holder for holder in holders if holder not in begun)


def _beginnings_of(name: str) -> list[list[str]]:
    parts = name.split(".")
    return [parts[:depth] for depth in range(1, len(parts) + 1)]
