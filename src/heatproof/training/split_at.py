"""Cut a network in two at a layer, so that what lies before it need be computed only once."""

from collections.abc import Iterable
from dataclasses import is_dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from heatproof.errors import HeatproofError
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.models.layers import find_layer, layer_name, list_layers, network_of
from heatproof.models.odd_images import takes_activations
from heatproof.types import AtLayer, Explainer, Images


class Halves(NamedTuple):
    """A network in two; the halves share their layers with it."""

    front: nn.Module
    """Images in [0, 1] to the activation before the layer."""
    rear: nn.Module
    """That activation to logits. Layers keep their names."""


class _Coarse(fx.Tracer):
    """Looks inside the modules that hold the layer and at nothing else, so hooks on all other modules still fire."""

    def __init__(self, holders: set[str]):
        super().__init__()
        self.holders = holders

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.holders


class _Front(nn.Module):
    def __init__(self, model: nn.Module, network: nn.Module):
        super().__init__()
        self.network = network
        self.statistics = [model.mean, model.std] if isinstance(model, Classifier) else None

    def forward(self, images: Images) -> Tensor:
        if self.statistics is not None:
            images = (images - self.statistics[0]) / self.statistics[1]
        return self.network(images)


def split_at(model: nn.Module, layer: str) -> Halves | None:
    """The network before ``layer`` and from it on.

    ``None`` where that cannot be had: the network cannot be traced, or more than one ``[batch, channels, rows, cols]``
    activation leads past the layer's beginning.

    Raises:
        LayerError: there is no such layer.
    """
    find_layer(model, layer)
    if isinstance(model, Classifier) and model.softplus is not None:
        return None  # what stands in the place of ReLU is the classifier's, not the network's
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
    front, rear = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in nodes[:begin]:
        known[node] = front.node_copy(node, known.__getitem__)
    front.output(known[bridge])
    # a copy: a rear that begins with an in-place ReLU must not write into what is stored
    known = {bridge: rear.call_method("clone", (rear.placeholder("activation"),))}
    for node in nodes[begin:]:
        known[node] = rear.node_copy(node, known.__getitem__)
    halves = Halves(_Front(model, fx.GraphModule(network, front)), fx.GraphModule(network, rear))
    takes_activations(halves.rear)
    return halves


def explainer_on_rear(explainer: Explainer, model: nn.Module, halves: Halves, images: Images) -> Explainer | None:
    """The explainer whose maps on the rear half are those of ``explainer`` on the whole; ``None``: there is none.

    A layer may have several names (a container and its last member), of which the rear has some: one of these is
    taken. It is tried on two images, so whatever needs the pixels, or the front, is found out.
    """
    if not is_dataclass(explainer) or isinstance(explainer, type) or not isinstance(explainer, AtLayer):
        return None
    images = images[:2]
    try:
        with evaluating(halves.front), torch.no_grad():
            activation = halves.front(images)
        whole = explainer(model, images)
        names = _same(model, layer_name(model, explainer.layer, images), images)
    except HeatproofError:
        return None
    for name in names:
        try:
            candidate = replace(explainer, layer=name)
            part = candidate(halves.rear, activation, whole.targets)
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


def parameters_from(model: nn.Module, layer: str, image: Images) -> Iterable[nn.Parameter]:
    """The parameters of all modules that run when ``layer`` begins, or later.

    Raises:
        LayerError: there is no such layer.
    """
    wanted = find_layer(model, layer)
    begun = False
    late: dict[int, nn.Parameter] = {}

    def note(module: nn.Module, args: object) -> None:
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
