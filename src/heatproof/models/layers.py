"""Layers by their own names: find one, list them, choose the default, and record what they put out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import LayerError, did_you_mean
from heatproof.models.channels import input_channels
from heatproof.models.classifier import Classifier, unwrap
from heatproof.models.fields import receptive_fields
from heatproof.models.intact import evaluating
from heatproof.types import AtLayer, Explainer, Images, Layered, Logits

E = TypeVar("E")

PIXELS = "pixels"
"""The name of the images themselves, where a layer is asked for."""
DEFAULT = "default"
"""The name that stands for the model's default layer."""


def network_of(model: nn.Module) -> nn.Module:
    """The network that owns the layer names: inside a Classifier and every wrapper."""
    return model.network if isinstance(model, Classifier) else unwrap(model)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module called ``name`` in the network.

    Raises:
        LayerError: with the nearest names.
    """
    modules = dict(network_of(model).named_modules())
    if not name or name not in modules:
        known = [known for known in modules if known]
        raise LayerError(f"there is no layer {name!r} in {_title(model)}; {did_you_mean(name, known)}")
    return modules[name]


def layer_name(model: nn.Module, layer: Layered, images: Images | None = None) -> str:
    """``layer``, checked, or the name of the module that was given; the default for ``None`` or ``"default"``.

    Raises:
        LayerError: the model has no such layer.
    """
    if isinstance(layer, nn.Module):
        return _name_of(model, layer)
    if layer is None or layer == DEFAULT:
        return default_layer(model, images)
    if layer != PIXELS:
        find_layer(model, layer)
    return layer


def _name_of(model: nn.Module, layer: nn.Module) -> str:
    for name, module in network_of(model).named_modules():
        if module is layer and name:
            return name
    raise LayerError(
        f"this {type(layer).__name__} is no layer of {_title(model)}: give a module of the network itself "
        "(model.network.layer4), or its name"
    )


def record(
    model: nn.Module, images: Images, layers: Iterable[str], *, create_graph: bool
) -> tuple[Logits, dict[str, Float[Tensor, "batch features rows cols"]]]:
    """One forward pass in eval mode that also hands out what the named layers put out.

    The recorded tensors belong to the graph of the logits, so ``torch.autograd.grad(logits, recorded)`` works. With
    ``create_graph=False`` the graph begins at the first recorded layer: what lies before runs as fast and lean as
    under ``no_grad``, and logits do not depend on the weights. A layer that is called several times (a reused ReLU)
    is recorded at its last call. Layers that write in place get a copy, so that the recorded values stay.

    Raises:
        LayerError: for a layer that is missing, is not reached, or does not put out a ``[batch, channels, rows,
            cols]`` map.
    """
    names = list(dict.fromkeys(layers))
    recorded: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], Tensor]:
        def hook(module: nn.Module, args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != 4:
                what = f"{list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                raise LayerError(
                    f"layer {name!r} puts out {what}; a heatmap needs [batch, channels, rows, cols]: "
                    "`heatproof list layers` shows which layers have one"
                )
            if not create_graph and not torch.is_grad_enabled():
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            recorded[name] = output
            return output.clone()

        return hook

    hooks = []
    # inference mode would forbid the graph that a heatmap needs; its tensors must be copied out of it
    with torch.inference_mode(False), evaluating(model), torch.set_grad_enabled(create_graph):
        if images.is_inference():
            images = images.clone()
        if PIXELS in names:
            if not create_graph:
                images = images.detach()
                torch.set_grad_enabled(True)
            elif not images.requires_grad:
                images = images.detach()
            recorded[PIXELS] = images.requires_grad_() if images.is_leaf else images
            images = images.clone()
        try:
            hooks = [find_layer(model, n).register_forward_hook(keep(n)) for n in names if n != PIXELS]
            logits = model(images)
        finally:
            for hook in hooks:
                hook.remove()
    for name in names:
        if name not in recorded:
            raise LayerError(f"layer {name!r} is not reached by the forward pass of {_title(model)}")
    return logits, recorded


@dataclass(frozen=True)
class Layer:
    """One row of ``heatproof list layers``."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """Output of one image: (channels, rows, cols) for a map."""
    receptive_field: int | None
    """Pixels, one side; ``None`` where the whole image is seen."""
    pooling: bool
    address: int
    """Equal for layers that hand on the same tensor (a block and its last layer, an in-place ReLU)."""


def list_layers(model: nn.Module, image: Images | None = None) -> list[Layer]:
    """Every layer in the order in which its output is ready, by one probing pass over a grey image.

    A layer that is called several times stands once, at its last call.
    """
    network = network_of(model)
    image = _probe(model) if image is None else image[:1].detach()
    outputs: dict[str, tuple[nn.Module, Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.pop(name, None)
                outputs[name] = (module, output)

        return hook

    hooks = []
    with torch.inference_mode(False), torch.no_grad(), evaluating(model), receptive_fields(image) as field_of:
        try:
            hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_modules() if name]
            model(image)
        finally:
            for hook in hooks:
                hook.remove()
        return [
            Layer(
                name=name,
                kind=type(module).__name__,
                shape=tuple(output.shape[1:]),
                receptive_field=field_of(output),
                pooling="pool" in type(module).__name__.lower(),
                address=output.data_ptr(),
            )
            for name, (module, output) in outputs.items()
        ]


DEFAULT_REASON = "last feature map before pooling"


def check_layer(model: nn.Module, explainer: Explainer) -> None:
    """Stop an explainer of a layer that the model does not have; one that names no layer, or reads none, passes.

    Raises:
        LayerError: names the nearest.
    """
    if isinstance(explainer, AtLayer) and explainer.layer is not None:
        layer_name(model, explainer.layer)


def at_named_layer(model: nn.Module, explainer: E) -> E:
    """The explainer, with the name of its layer where a module was given: what copies of the model know as well.

    Raises:
        LayerError: the module is no layer of the model.
    """
    if isinstance(explainer, AtLayer) and isinstance(explainer.layer, nn.Module):
        return replace(explainer, layer=layer_name(model, explainer.layer))  # type: ignore[type-var]
    return explainer


def default_layer(model: nn.Module, image: Images | None = None) -> str:
    """The last feature map before pooling, by its shortest name: ``layer4``, VGG's ``features.29``.

    Maps of class scores (as many channels as classes, after the features) and pooled maps do not count.

    Raises:
        LayerError: for a network without a feature map (fully connected, or a transformer).
    """
    if isinstance(model, Classifier) and model.default_layer is not None:
        find_layer(model, model.default_layer)
        return model.default_layer
    if image is None:
        image = _probe(model)
    layers = list_layers(model, image)
    pooled = {layer.address for layer in layers if layer.pooling}
    maps = [
        layer
        for layer in layers
        if len(layer.shape) == 3 and min(layer.shape[1:]) > 1 and layer.address not in pooled and layer.shape[0] > 3
    ]
    if not maps:
        raise LayerError(
            f"{_title(model)} has no layer that puts out a feature map [batch, channels, rows, cols] larger than 1x1; "
            "heatmaps at a layer need a convolutional network"
        )
    # SqueezeNet's last map holds class scores; the features are what lies before it
    classes = _class_count(layers)
    features = [layer for layer in maps if layer.shape[0] != classes] or maps
    last = features[-1].address
    same = [layer for layer in features if layer.address == last]
    depth = min(layer.name.count(".") for layer in same)
    name = [layer.name for layer in same if layer.name.count(".") == depth][-1]
    if isinstance(model, Classifier):
        model.default_layer = name
    return name


def _class_count(layers: list[Layer]) -> int:
    """Channels of the last layer that ran: the number of classes."""
    return layers[-1].shape[0] if layers else 0


def _probe(model: nn.Module) -> Images:
    """One grey image of the model's input size and channels, on its device."""
    shape = model.input_shape if isinstance(model, Classifier) else (224, 224)
    channels = model.channels if isinstance(model, Classifier) else input_channels(model, shape, _title(model))
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.full((1, channels, *shape), 0.5, device=parameter.device, dtype=parameter.dtype)


def logit_count(model: nn.Module) -> int:
    """How many logits the model puts out, by one pass."""
    with evaluating(model), torch.no_grad():
        return model(_probe(model)).shape[1]


def _title(model: nn.Module) -> str:
    return model.name if isinstance(model, Classifier) else type(model).__name__
