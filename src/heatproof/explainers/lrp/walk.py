"""There and back: the forward pass over the live modules, and relevance from the logits down."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from heatproof.errors import LayerError, ModelError
from heatproof.explainers.lrp.affine import Affine, Call, affine, full, scale_and_shift
from heatproof.explainers.lrp.graph import Traced, attribute
from heatproof.explainers.lrp.kinds import NORM, STANDARDISED, WEIGHTED, Kind, Piece
from heatproof.explainers.lrp.norms import Standard, standard
from heatproof.explainers.lrp.plan import Plan, Step, no_relevance

Values = dict[fx.Node, Any]

# the functional forms' arguments, in order
_ORDER = {
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose": ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    "linear": ("input", "weight", "bias"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
}


def forward(traced: Traced, plan: Plan, network: nn.Module, pixels: Tensor) -> Values:
    """Run the network node by node; afterwards the values hold what the plan keeps, and shapes of all other signals.

    A node that overwrites its input gets a copy where someone still needs that input.
    """
    values: Values = {}
    if plan.formatless and pixels.device.type == "cpu" and pixels.dtype == torch.float32:
        # convolutions on a CPU are a third faster so
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    # the last node only hands out
    for node in list(traced.graph.nodes)[:-1]:
        if node.op == "placeholder":
            values[node] = pixels if node is plan.start else (node.args[0] if node.args else None)
        elif node.op == "get_attr":
            name = str(node.target)
            values[node] = traced.constants[name] if name in traced.constants else attribute(network, name)
        else:
            replaced = {}
            if node in plan.overwriting and _needed(node.args[0], values, plan):
                replaced[node.args[0]] = values[node.args[0]].clone()
            values[node] = run(node, network, {**values, **replaced} if replaced else values)
        for done in plan.freed.get(node, ()):
            if done not in plan.read_later:
                values[done] = _shape_of(values[done])
    return values


def run(node: fx.Node, network: nn.Module, values: Values) -> Any:
    """One node, on the live module."""
    arguments: Any = map_arg(node.args, values.__getitem__)
    named: Any = map_arg(node.kwargs, values.__getitem__)
    if node.op == "call_module":
        return network.get_submodule(str(node.target))(*arguments, **named)
    if node.op == "call_method":
        # a view that the memory format does not allow is a reshape
        name = "reshape" if node.target == "view" else str(node.target)
        return getattr(arguments[0], name)(*arguments[1:], **named)
    return node.target(*arguments, **named)  # type: ignore[operator]


def walk(plan: Plan, network: nn.Module, values: Values, relevance: Tensor, bounds: Any) -> Tensor:
    """Carry ``relevance`` of the logits down to where the plan stops.

    Args:
        bounds: what black and white pixels are for the network, or ``None`` where that is not known.
    """
    arrived: dict[fx.Node, Any] = {plan.end: relevance}
    waiting = Counter(signal for step in plan.steps for signal in step.signals)
    # what a layer has put out is read by those behind it, and once more by its own rule
    waiting.update(step.node for step in plan.steps if step.recorded)
    for step in plan.steps:
        here = arrived.pop(step.node, None)
        if here is not None:
            if step.refused:
                raise ModelError(step.refused)
            inputs = [values[signal] for signal in step.signals]
            if step.kind is Piece:
                split = step.signals[0]
                pieces = arrived.setdefault(split, [None] * len(values[split]))
                pieces[step.node.args[1]] = _plus(pieces[step.node.args[1]], here)
                continue
            layer = _layer(step, plan, network, values, bounds)
            shares = step.rule(layer, [full(value) for value in inputs], here)
            for signal, share in zip(step.signals, [shares] if isinstance(shares, Tensor) else shares, strict=True):
                if share is not None:
                    arrived[signal] = _plus(arrived.get(signal), share)
        for signal in (*step.signals, step.node) if step.recorded else step.signals:
            waiting[signal] -= 1
            if not waiting[signal] and signal is not plan.stop:
                values[signal] = None
    if plan.stop not in arrived:
        raise LayerError(no_relevance(plan.stop, network))
    return arrived[plan.stop]


def _plus(known: Tensor | None, share: Tensor) -> Tensor:
    return share if known is None else known + share


def _layer(step: Step, plan: Plan, network: nn.Module, values: Values, bounds: Any) -> Affine | Standard | Call:
    node = step.node
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    name = str(node.target) if module is not None else node.name
    known: dict[str, Any] = {"name": name, "nonnegative": step.nonnegative, "rectified": step.rectified}
    if issubclass(step.kind, STANDARDISED):
        return standard(step.kind, module, _arguments(node, step.kind, values), name)
    if not issubclass(step.kind, WEIGHTED):

        def function(*inputs: Tensor) -> Any:
            if node in plan.overwriting:
                inputs = (inputs[0].clone(), *inputs[1:])
            return run(node, network, {**values, **dict(zip(step.signals, inputs, strict=True))})

        known |= {
            "arguments": map_arg(node.args, values.__getitem__),
            "named": map_arg(node.kwargs, values.__getitem__),
            "signals": step.signals,
        }
        return Call(node=node, module=module, function=function, **known)
    known["nonnegative"] = all(step.nonnegative)
    arguments = _arguments(node, step.kind, values)
    norm = None
    if step.norm is not None:
        norm = _norm(step.norm, network, values)
    if step.first and bounds is not None:
        known["bounds"] = tuple(_before(step.signals[0], plan, network, values, bound) for bound in bounds)
    if step.recorded:
        known["recorded"] = values[node]
    return affine(step.kind, module, arguments, norm, **known)


def _norm(node: fx.Node, network: nn.Module, values: Values) -> tuple[Tensor, Tensor]:
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return scale_and_shift(module, _arguments(node, NORM[1], values))


def _arguments(node: fx.Node, kind: Kind, values: Values) -> dict[str, Any]:
    """The arguments of a functional form by name; of a module only its input."""
    arguments: Any = map_arg(node.args, values.__getitem__)
    if node.op == "call_module":
        return {"input": arguments[0] if arguments else values[next(iter(node.all_input_nodes))]}
    name = kind.__name__.lower()
    form = "conv_transpose" if "transpose" in name else "linear" if name == "linear" else "conv"
    form = next((norm for norm in _ORDER if norm.replace("_", "") == name.rstrip("123d")), form)
    return dict(zip(_ORDER[form], arguments, strict=False)) | dict(map_arg(node.kwargs, values.__getitem__))


def _before(layer: fx.Node, plan: Plan, network: nn.Module, values: Values, pixels: Tensor) -> Tensor:
    """What ``pixels`` have become at the input of a layer."""
    found: Values = {plan.start: pixels}

    def value(node: fx.Node) -> Any:
        if node not in found:
            # sizes too: a view by x.size(0) reads the number of these pixels
            sources = {source: value(source) for source in node.all_input_nodes}
            found[node] = run(node, network, sources) if sources else values[node]
        return found[node]

    return value(layer)


def _needed(source: Any, values: Values, plan: Plan) -> bool:
    """Whether the memory of a value is also read by someone later."""
    if source in plan.read_later:
        return True
    memory = values[source].untyped_storage().data_ptr()
    return any(
        isinstance(value, Tensor) and value.untyped_storage().data_ptr() == memory
        for node, value in values.items()
        if node is not source
    )


def _shape_of(value: Any) -> Any:
    """A stand-in that costs no memory."""
    if isinstance(value, Tensor):
        return value.detach().new_empty(()).expand(value.shape)
    return [_shape_of(one) for one in value] if isinstance(value, list | tuple) else value
