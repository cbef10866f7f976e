"""The network's own graph, traced once, read again and again on the live modules."""

import inspect
import linecache
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_arg

from heatproof.errors import ModelError
from heatproof.explainers.lrp.kinds import Kind, writes_in_place
from heatproof.explainers.lrp.openings import OPENED, module_opening, opening
from heatproof.models.intact import evaluating, unchanged
from heatproof.models.outputs import NAMES, WITH_AUXILIARIES
from heatproof.models.structure import own_pass, remembered


@dataclass(frozen=True)
class Traced:
    """A graph with what is needed to run it on a network; holds no module and no parameter."""

    graph: fx.Graph
    outputs: dict[str, fx.Node]
    """Module name -> the node that holds its output (the last one, if it is called several times)."""
    constants: dict[str, Tensor]
    """Tensors that the forward method made out of nothing."""
    plans: dict[Any, Any]
    """What :mod:`~heatproof.explainers.lrp.plan` worked out for this graph."""
    compared: set[torch.Size]
    """Shapes of pixels for which the graph's logits were held against the network's own."""


_JOINS = (torch.cat, torch.concat, torch.concatenate, torch.stack)


def traced(network: nn.Module, pixels: Tensor, leaves: tuple[Kind, ...] = ()) -> Traced:
    """The graph of ``network`` in eval mode, made at the first call and again when the network was changed.

    A forward method that branches on sizes (timm's VGG, TensorFlow's SAME padding) is traced for the size at hand.

    Args:
        leaves: module types that stay one node, beside torch's own.

    Raises:
        ModelError: where the forward method cannot be traced, with the line that stops it.
    """
    # by leaves, and shape, type and device of the pixels or None for all; None where that cannot be traced
    graphs: dict[Any, Traced | None] = remembered(network).setdefault("graphs", {})
    this_size, any_size = (leaves, pixels.shape, pixels.dtype, pixels.device), (leaves, None)
    if any_size not in graphs:
        try:
            graphs[any_size] = _trace(network, _Tracer(leaves))
        except Exception:
            graphs[any_size] = None
    if (found := graphs[any_size]) is not None:
        return found
    if this_size not in graphs:
        try:
            graphs[this_size] = _trace(network, _SizedTracer(leaves, pixels))
        except Exception as error:
            raise ModelError(_untraceable(network, error)) from error
    found = graphs[this_size]
    assert found is not None
    return found


class _Tracer(fx.Tracer):
    # a buffer is read when the graph runs, not when it is made
    proxy_buffer_attributes = True

    def __init__(self, leaves: tuple[Kind, ...]):
        super().__init__()
        self.leaves = leaves
        self.outputs: dict[str, fx.Node] = {}
        self.constants: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        # the pixels alone, as a classifier calls its network: other arguments keep their defaults, and a decorated
        # forward method (HuggingFace's) is called as it is
        name = next(iter(inspect.signature(self.root.forward).parameters), "x")
        pixels = self.create_proxy("placeholder", name, (), {})
        return lambda network, x: _plain(network.forward(x)), [self.root, pixels]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self.leaves):
            return True
        return type(m) not in OPENED and super().is_leaf_module(m, module_qualified_name)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        opened = opening(target) if kind == "call_function" else None
        if opened is not None:
            return opened(*args, **kwargs)
        if target in _JOINS and args and isinstance(args[0], fx.Proxy):
            # pieces that are joined again without a name of their own
            args = (self.pieces(args[0]), *args[1:])
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def pieces(self, several: fx.Proxy) -> list[Any]:
        """What a split made, one by one.

        Raises:
            TypeError: their number is not known before sizes are.
        """
        raise TypeError(f"{several.node.name} puts out as many tensors as its size says")

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, module_opening(m) or forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            self.outputs[self.path_of_module(m)] = output.node
        return output

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        # torch goes through the names of all parameters for each that is read
        if not self.names:
            named = (*self.root.named_buffers(), *self.root.named_parameters())
            self.names = {id(value): name for name, value in named}
        name = self.names.get(id(attr_val)) if isinstance(attr_val, Tensor) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        # torch would hang such a tensor on the network as a new attribute
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter) and a not in self.tensor_attrs:
            known = any(a is buffer for buffer in self.root.buffers())
            if not known:
                name = f"constant{len(self.constants)}"
                self.constants[name] = a.detach()
                return self.create_node("get_attr", name, (), {})
        return super().create_arg(a)


class _Sized(fx.Proxy):
    """A proxy that knows its size, type and device, which a forward method may then branch on."""

    @property
    def shape(self) -> torch.Size:
        return self.tracer.sizes[self.node].shape  # type: ignore[attr-defined]

    @property
    def dtype(self) -> torch.dtype:
        return self.tracer.sizes[self.node].dtype  # type: ignore[attr-defined]

    @property
    def device(self) -> torch.device:
        return self.tracer.sizes[self.node].device  # type: ignore[attr-defined]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return self.shape.numel()

    def __len__(self) -> int:
        return self.shape[0]


class _SizedTracer(_Tracer):
    """Runs the network on tensors without memory while it traces, to know every size."""

    def __init__(self, leaves: tuple[Kind, ...], pixels: Tensor):
        super().__init__(leaves)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.sizes: dict[fx.Node, Any] = {}
        self.computing = False
        with self.mode:
            self.pixels = torch.empty(pixels.shape, dtype=pixels.dtype, device=pixels.device)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self) if isinstance(self.sizes.get(node), Tensor) else fx.Proxy(node, self)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        if kind == "placeholder":
            self.sizes[node] = self.sizes.get(node, args[0] if args else None) if self.sizes else self.pixels
        elif kind != "output":
            self.computing = True
            try:
                with self.mode, torch.no_grad():
                    self.sizes[node] = self._size(kind, target, args, kwargs)
            finally:
                self.computing = False
        return node

    def pieces(self, several: fx.Proxy) -> list[Any]:
        proxy: Any = several
        return [proxy[place] for place in range(len(self.sizes[several.node]))]

    def _size(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = (map_arg(a, self.sizes.__getitem__) for a in (args, kwargs))
        if kind == "get_attr":
            return self.constants[target] if target in self.constants else attribute(self.root, target)
        if kind == "call_module":
            return self.root.get_submodule(target).forward(*args, **kwargs)
        return getattr(args[0], target)(*args[1:], **kwargs) if kind == "call_method" else target(*args, **kwargs)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.computing else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)


def attribute(network: nn.Module, path: str) -> Any:
    """``layer1.0.weight`` of a network."""
    found: Any = network
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _trace(network: nn.Module, tracer: _Tracer) -> Traced:
    # a forward method that keeps something for the next call would keep proxies
    with evaluating(network), unchanged(network):
        graph = tracer.trace(network)
        _make_functional(graph, network)
    return Traced(graph, tracer.outputs, tracer.constants, {}, set())


def _make_functional(graph: fx.Graph, network: nn.Module) -> None:
    """Whoever reads a tensor after it was overwritten reads the node that overwrote it; then drop what nobody reads."""
    for node in graph.nodes:
        if node.args and isinstance(node.args[0], fx.Node) and writes_in_place(node, network):
            source = node.args[0]
            source.replace_all_uses_with(node, delete_user_cb=lambda user, node=node: user > node)
    for node in reversed(list(graph.nodes)):
        if node.op not in ("placeholder", "output") and not node.users:
            graph.erase_node(node)


def _plain(returned: Any) -> Any:
    """What a graph may put out: objects that hold tensors (HuggingFace's outputs) as a dictionary of these."""
    if isinstance(returned, tuple | list | Tensor | fx.Proxy) or type(returned) is dict:
        return returned
    held = returned if isinstance(returned, Mapping) else getattr(returned, "__dict__", {})
    return {key: value for key, value in held.items() if isinstance(value, fx.Proxy)} or returned


def output_of(returned: Any, key: str | int | None = None) -> Any:
    """The logits among what a forward method returned, as a classifier reads them: by its ``logits_key``, or else the
    only one of a tuple, ``logits`` or ``out`` of a dictionary.
    """
    if key is not None:
        try:
            return returned[key]
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(returned, tuple | list):
        return returned[0] if len(returned) == 1 or type(returned).__name__ in WITH_AUXILIARIES else returned
    if isinstance(returned, Tensor | fx.Node):
        return returned
    if isinstance(returned, Mapping):
        return next((returned[key] for key in NAMES if key in returned), None)
    return next((getattr(returned, key) for key in NAMES if hasattr(returned, key)), returned)


def compare(network: nn.Module, pixels: Tensor, logits: Tensor, key: str | int | None = None) -> None:
    """Hold the graph's logits against those of the network itself, which costs one forward pass.

    Raises:
        ModelError: where they differ: then the forward method does something that the graph does not have.
    """
    with torch.no_grad(), unchanged(network), own_pass(network):
        # the first layer may overwrite the pixels
        own, logits = output_of(network(pixels.detach().clone()), key), logits.detach()
    if not isinstance(own, Tensor) or own.shape != logits.shape or not bool(own.isfinite().all()):
        return
    exact = own.dtype == torch.float64 and pixels.dtype == torch.float64
    tolerance = 1e-6 if exact else 1e-3 if own.dtype == pixels.dtype == torch.float32 else 0.1
    off, largest = float((own - logits).abs().max()), float(own.abs().max())
    if off > tolerance * max(largest, 1e-30):
        raise ModelError(
            f"LRP walks the graph of {type(network).__name__}, whose logits differ by {off:.3g} from those of the "
            f"network itself (largest {largest:.3g}): its forward method does something that torch.fx does not see, "
            "such as writing into a slice of a tensor, drawing random numbers, or a hook that changes an output. Write "
            "it without that, or make it a module with a rule of its own in a composite "
            "(heatproof.explainers.lrp.composites)"
        )


def _untraceable(network: nn.Module, error: Exception) -> str:
    """The sentence for a network that cannot be traced: which line of which forward method, and the way out."""
    inside = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inside)]
    where = ""
    if frames:
        frame = frames[-1]
        line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        where = f" at {Path(frame.filename).name}:{frame.lineno}, in {frame.name}: `{line}`"
    reason = str(error).split("\n")[0]
    return (
        f"LRP walks the graph of {type(network).__name__}, which torch.fx cannot trace{where} ({reason}). "
        "The way through the network must not depend on the values of tensors there: write that line without `if`, "
        "`int()` or a loop over a tensor, move it into a function decorated with torch.fx.wrap, or make it a module "
        "with a rule of its own in a composite (heatproof.explainers.lrp.composites)"
    )
