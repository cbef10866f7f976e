"""Layers by their own names: find one, list them, choose the default, and record what they put out."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import LayerError, ModelError, did_you_mean
from heatproof.models.channels import input_channels
from heatproof.models.choice import WHOLE, Choice, TooSmall, candidates, check_read, choose, remark_on_small, too_small
from heatproof.models.classifier import Classifier, unwrap
from heatproof.models.ending import ending_of
from heatproof.models.fields import receptive_fields
from heatproof.models.finite import ANSWER, check_finite
from heatproof.models.following import FollowAxes
from heatproof.models.intact import evaluating
from heatproof.models.layout import Layout, layout_of
from heatproof.models.readings import Detection
from heatproof.models.structure import own_pass, remembered, structure_digest
from heatproof.models.twice import twice_differentiable
from heatproof.types import AtLayer, Explainer, Images, Layered, Logits, changed_inside, inside

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
    if layer is not None and not isinstance(layer, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise LayerError(
            f"a layer is a name or a module of the network, got {type(layer).__name__}; a map is of one layer: where "
            "other libraries take target_layers=[module], give layer=module, and explain once for each"
        )
    if layer is None or layer == DEFAULT:
        return default_layer(model, images)
    if layer != PIXELS:
        find_layer(model, layer)
    return layer


def _name_of(model: nn.Module, layer: nn.Module) -> str:
    for name, module in network_of(model).named_modules():
        if module is layer and name:
            return name
    if layer in (model, network_of(model)):
        raise LayerError(
            f"a layer is a module inside the network, and this is {_title(model)} itself; an explainer is made without "
            "a model and called with one: GradCAM()(model, images, targets)"
        )
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
    is recorded at its last call. Layers that write in place get a copy, so that the recorded values stay. Outputs of
    other layouts (channels last, tokens) are recorded as maps with channels first.

    Raises:
        LayerError: for a layer that is missing, is not reached, or puts out no map whose rows and columns are known.
        ModelError: the logits are not finite, with ``create_graph=False`` (a training notices it in its loss).
    """
    names = list(dict.fromkeys(layers))
    recorded: dict[str, Tensor] = {}
    caller, known = get_ident(), known_layouts(model, images) if set(names) - {PIXELS} else Layouts()

    def keep(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if get_ident() != caller:
                # another thread's pass through the same network
                return output
            layout = known.get(name, output)
            if layout is None:
                raise LayerError(no_maps(name, output))
            if not create_graph and not torch.is_grad_enabled():
                output = output.detach().requires_grad_()
                torch.set_grad_enabled(True)
            recorded[name] = maps = layout.maps(output)
            return layout.output(maps, output).clone()

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
            with twice_differentiable(create_graph):
                logits = model(images)
        finally:
            for hook in hooks:
                hook.remove()
    for name in names:
        if name not in recorded:
            raise LayerError(f"layer {name!r} is not reached by the forward pass of {_title(model)}")
    if not create_graph:
        check_finite(logits.detach(), ANSWER)
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
    layout: Layout | None = None
    """Where rows, columns and channels are; ``None``: there are none, or they cannot be established."""


@dataclass
class Layouts:
    """The layout of every layer's output, for images of one size."""

    known: dict[tuple[str, tuple[int, ...]], Layout | None] = field(default_factory=dict)

    def get(self, name: str, output: Any) -> Layout | None:
        return self.known.get((name, tuple(output.shape[1:]))) if isinstance(output, Tensor) else None


def known_layouts(model: nn.Module, images: Images) -> Layouts:
    """The layouts for images of this size: found by one pass over the first image, once for each size."""
    found = _layouts_by_size(model).get(tuple(images.shape[1:]))
    if found is None:
        found = probe(model, images[:1].detach()).layouts
    return found


def _layouts_by_size(model: nn.Module) -> dict[tuple[int, ...], Layouts]:
    return remembered(network_of(model)).setdefault("layouts", {})


@dataclass
class Probe:
    """What one pass over one image shows of a network."""

    image: Images
    outputs: dict[str, tuple[nn.Module, Tensor]]
    """In the order in which they are ready; a layer that is called several times at its last call."""
    layouts: Layouts
    logits: Logits
    fields: dict[str, int | None]

    def layers(self) -> list[Layer]:
        return [
            Layer(
                name=name,
                kind=type(module).__name__,
                shape=tuple(output.shape[1:]),
                receptive_field=self.fields.get(name),
                pooling="pool" in type(module).__name__.lower(),
                address=output.data_ptr() if output.layout is torch.strided else id(output),
                layout=self.layouts.get(name, output),
            )
            for name, (module, output) in self.outputs.items()
        ]


def probe(model: nn.Module, image: Images, *, graph: bool = False, fields: bool = False) -> Probe:
    """One pass over one image: every layer's output and layout, on request the graph and receptive fields."""
    outputs: dict[str, tuple[nn.Module, Tensor]] = {}
    layouts, caller = Layouts(), get_ident()
    with own_pass(network_of(model)), torch.inference_mode(False), torch.set_grad_enabled(graph), evaluating(model):
        image = image.detach().clone().requires_grad_(graph)
        axes = FollowAxes(image)

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                # a nested tensor has no shape
                if isinstance(output, Tensor) and not output.is_nested and get_ident() == caller:
                    outputs.pop(name, None)
                    outputs[name] = (module, output)
                    layouts.known[name, tuple(output.shape[1:])] = layout_of(axes.of(output))

            return hook

        hooks = []
        with axes, receptive_fields(image) if fields else nullcontext() as field_of:
            try:
                named = network_of(model).named_modules()
                hooks = [module.register_forward_hook(keep(name)) for name, module in named if name]
                logits = model(image)
            finally:
                for hook in hooks:
                    hook.remove()
            seen = {name: field_of(output) for name, (_, output) in outputs.items()} if field_of else {}
    _layouts_by_size(model)[tuple(image.shape[1:])] = layouts
    return Probe(image, outputs, layouts, logits, seen)


def list_layers(model: nn.Module, image: Images | None = None) -> list[Layer]:
    """Every layer in the order in which its output is ready, by one probing pass over a grey image.

    A layer that is called several times stands once, at its last call.
    """
    return probe(model, grey_image(model) if image is None else image[:1].detach(), fields=True).layers()


DEFAULT_REASON = WHOLE


def check_layer(model: nn.Module, explainer: Explainer) -> None:
    """Stop an explainer of a layer that the model does not have; one that names no layer, or reads none, passes.

    Raises:
        LayerError: names the nearest.
    """
    for one in inside(explainer):
        check_layer(model, one)
    if isinstance(explainer, AtLayer) and explainer.layer is not None:
        layer_name(model, explainer.layer)


def at_named_layer(model: nn.Module, explainer: E) -> E:
    """The explainer, with the name of its layer where a module was given: what copies of the model know as well.

    Raises:
        LayerError: the module is no layer of the model.
    """
    explainer = changed_inside(explainer, lambda one: at_named_layer(model, one))
    if isinstance(explainer, AtLayer) and isinstance(explainer.layer, nn.Module):
        return replace(explainer, layer=layer_name(model, explainer.layer))  # type: ignore[type-var]
    return explainer


def default_layer(model: nn.Module, image: Images | None = None) -> str:
    """The last feature map before pooling, by its shortest name: ``layer4``, VGG's ``features.29``.

    The score must have a gradient there, and depend on the image through it alone: of a vision transformer with a
    class token it is what goes into the last block (``blocks.10``), and what lies inside a block does not count. Where
    no such layer is near, it is the last feature map of one branch (:func:`choose_layer` says so). Maps of class
    scores (as many channels as classes, and no weights after them), pooled maps and closing normalisations of tokens
    do not count.

    Raises:
        LayerError: for a network without a feature map whose rows and columns are known, or whose score has no
            gradient at one.
    """
    known = model.default_layer if isinstance(model, Classifier) else None
    if isinstance(model, Classifier) and known is not None and not _outlived(model, known):
        find_layer(model, known)
        if not model.ending_checked:
            _check_ending_by_a_pass(model, grey_image(model) if image is None else image[:1])
        return str(known)
    chosen, beyond = _chosen(model, image)
    if beyond is not None:
        remark_on_small(network_of(model), _title(model), chosen.name, beyond)
    if isinstance(model, Classifier):
        model.default_layer = found = Found(chosen.name)
        found.of = structure_digest(network_of(model))
    return chosen.name


class Found(str):
    """The name of a default layer that nobody stated: it holds as long as the network is what it was."""

    of: str = ""
    """:func:`~heatproof.models.structure.structure_digest` of the network then."""


def _outlived(model: Classifier, name: str) -> bool:
    return isinstance(name, Found) and name.of != structure_digest(network_of(model))


def choose_layer(model: nn.Module, image: Images | None = None) -> Choice:
    """The default layer as it is found by a probe, and why it is the one."""
    return _chosen(model, image)[0]


def _chosen(model: nn.Module, image: Images | None) -> tuple[Choice, TooSmall | None]:
    seen = probe(model, grey_image(model) if image is None else image[:1], graph=True)
    check_ending(model, seen.logits)
    with torch.inference_mode(False), torch.enable_grad():
        maps = candidates(seen.outputs, seen.layouts, seen.logits.shape[1])
        chosen = choose(seen.image, seen.logits, maps, _title(model))
    check_read(chosen, seen.outputs, seen.layouts, _title(model))
    return chosen, too_small(chosen, seen.outputs)


def check_ending(model: nn.Module, outputs: Logits) -> None:
    """Stop a network that ends in softmax or sigmoid where nothing is said of it.

    Raises:
        ModelError: says what is seen, and how to say which it is.
    """
    if not isinstance(model, Classifier) or model.probabilities is not None or isinstance(model.reading, Detection):
        return
    ending = ending_of(outputs)
    if ending is None:
        model.ending_checked = True
        return
    seen = "that sum to 1, a softmax's" if ending == "softmax" else "of a sigmoid"
    raise ModelError(
        f"{model.name} puts out probabilities (numbers in [0, 1] {seen}) where logits are expected, and a "
        "softmax of these would be wrong: say Classifier(network, probabilities=True), or probabilities = True on "
        "what your factory returns; probabilities=False takes them for logits all the same"
    )


def _check_ending_by_a_pass(model: Classifier, image: Images) -> None:
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        check_ending(model, model(image.detach().clone().requires_grad_()))
    model.ending_checked = True


def grey_image(model: nn.Module) -> Images:
    """One grey image of the model's input size and channels, on its device."""
    shape = model.input_shape if isinstance(model, Classifier) else (224, 224)
    channels = model.channels if isinstance(model, Classifier) else input_channels(model, shape, _title(model))
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.full((1, channels, *shape), 0.5, device=parameter.device, dtype=parameter.dtype)


def logit_count(model: nn.Module) -> int:
    """How many logits the model puts out, by one pass."""
    with evaluating(model), torch.no_grad():
        return model(grey_image(model)).shape[1]


def no_maps(name: str, output: Any) -> str:
    """The sentence for a layer that puts out no maps."""
    if not isinstance(output, Tensor):
        return (
            f"layer {name!r} puts out {type(output).__name__}; a heatmap needs [batch, channels, rows, cols]: "
            "`heatproof list layers` shows which layers have one"
        )
    if output.ndim < 3:
        return (
            f"layer {name!r} puts out {list(output.shape)}; a heatmap needs [batch, channels, rows, cols]: "
            "`heatproof list layers` shows which layers have one"
        )
    return (
        f"layer {name!r} puts out {list(output.shape)}, in which the image's rows and columns cannot be established "
        "(attention inside a block, windows, or an operator that mixes them), and heatproof does not guess them: "
        "`heatproof list layers` shows the layers that have maps"
    )


def _title(model: nn.Module) -> str:
    return model.name if isinstance(model, Classifier) else type(model).__name__
