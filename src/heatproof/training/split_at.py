"""Cut a network in two at a layer, so that what lies before it need be computed only once."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from heatproof.errors import HeatproofError
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.models.layers import find_layer, layer_name, list_layers, network_of
from heatproof.types import Explainer, Images


class Cut(NamedTuple):
    """The two halves; they share their layers with the network."""

    head: nn.Module
    """Images in [0, 1] to the activation before the layer."""
    tail: nn.Module
    """That activation to logits. Layers keep their names."""


class _Coarse(fx.Tracer):
    """Looks inside the modules that hold the layer and at nothing else, so hooks on all other modules still fire."""

    def __init__(self, holders: set[str]):
        super().__init__()
        self.holders = holders

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.holders


class _Head(nn.Module):
    def __init__(self, model: nn.Module, network: nn.Module):
        super().__init__()
        self.network = network
        self.statistics = [model.mean, model.std] if isinstance(model, Classifier) else None

    def forward(self, images: Images) -> Tensor:
        if self.statistics is not None:
            images = (images - self.statistics[0]) / self.statistics[1]
        return self.network(images)


def cut(model: nn.Module, layer: str) -> Cut | None:
    """The network before ``layer`` and from it on.

    ``None`` where that cannot be had: the network cannot be traced, or more than one ``[batch, channels, rows, cols]``
    activation leads past the layer's beginning.

    Raises:
        LayerError: there is no such layer.
    """
    find_layer(model, layer)
    network = network_of(model)
    parts = layer.split(".")
    holders = {".".join(parts[:depth]) for depth in range(1, len(parts))}
    try:
        graph = _Coarse(holders).trace(network)
    except Exception:  # whatever a network's own Python does when it is traced
        return None
    nodes = list(graph.nodes)
    begin = next((place for place, node in enumerate(nodes) if node.target == layer), None)
    if begin is None:
        return None
    after = set(nodes[begin:])
    crossing = [node for node in nodes[:begin] if any(user in after for user in node.users)]
    if len(crossing) != 1 or crossing[0].op in ("placeholder", "get_attr"):
        return None
    (bridge,) = crossing
    head, tail = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in nodes[:begin]:
        known[node] = head.node_copy(node, known.__getitem__)
    head.output(known[bridge])
    # a copy: a tail that begins with an in-place ReLU must not write into what is kept
    known = {bridge: tail.call_method("clone", (tail.placeholder("activation"),))}
    for node in nodes[begin:]:
        known[node] = tail.node_copy(node, known.__getitem__)
    return Cut(_Head(model, fx.GraphModule(network, head)), fx.GraphModule(network, tail))


def explainer_on(explainer: Any, model: nn.Module, halves: Cut, images: Images) -> Explainer | None:
    """The explainer that says on the tail what ``explainer`` says on the whole; ``None`` where there is none.

    A layer may have several names (a container and its last member), of which the tail kept some: one of these is
    taken. It is tried on two images, so whatever needs the pixels, or the head, is found out.
    """
    at_layer: Any = explainer
    if not is_dataclass(explainer) or "layer" not in {entry.name for entry in fields(explainer)}:
        return None
    images = images[:2]
    try:
        with evaluating(halves.head), torch.no_grad():
            activation = halves.head(images)
        whole = at_layer(model, images)
        names = _same(model, layer_name(model, at_layer.layer, images), images)
    except HeatproofError:
        return None
    for name in names:
        candidate: Any = replace(at_layer, layer=name)
        try:
            part = candidate(halves.tail, activation, whole.targets)
        except Exception:  # an explainer of the user's may fail as it likes on half a network
            continue
        if part.heatmaps.shape == whole.heatmaps.shape and _close(part.heatmaps, whole.heatmaps):
            return candidate
    return None


def _same(model: nn.Module, layer: str, images: Images) -> list[str]:
    """The layer and all others that hand on the same tensor."""
    layers = list_layers(model, images)
    address = next((entry.address for entry in layers if entry.name == layer), None)
    return [layer, *(entry.name for entry in layers if entry.address == address and entry.name != layer)]


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def from_layer_on(model: nn.Module, layer: str, image: Images) -> Iterable[nn.Parameter]:
    """The parameters of all modules that run when ``layer`` begins, or later.

    Raises:
        LayerError: there is no such layer.
    """
    wanted = find_layer(model, layer)
    begun = False
    late: dict[int, nn.Parameter] = {}

    def note(module: nn.Module, args: Any) -> None:
        nonlocal begun
        begun = begun or module is wanted
        if begun:
            late.update({id(parameter): parameter for parameter in module.parameters(recurse=False)})

    hooks = [module.register_forward_pre_hook(note) for module in network_of(model).modules()]
    try:
        with torch.no_grad(), evaluating(model):
            model(image[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return late.values()
