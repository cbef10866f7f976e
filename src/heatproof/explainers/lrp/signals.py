"""Which nodes of the graph hold signals, tensors made from the pixels, and which signals each of them reads.

Nothing is left out here in silence: a node that reads a signal where no rule would look for one has no kind, and is
refused by name where relevance reaches it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import fx, nn

from heatproof.explainers.lrp.kinds import (
    AVERAGE,
    BOUNDED,
    IDENTITY,
    MAXIMUM,
    MOVE,
    RESHAPE,
    WEIGHTED,
    Add,
    Attention,
    Beside,
    Concat,
    Gate,
    Kind,
    LinearMap,
    Mixed,
    Offset,
    Piece,
    Product,
    Scale,
    Split,
    attended,
    function_name,
    kind_of,
)

Node = fx.Node

# sizes, types, comparisons and places: no part of a signal's value is in them, and nothing can be handed back
_ABOUT = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "get_device", "is_floating_point", "type"),
    *("eq", "ne", "lt", "le", "gt", "ge", "_assert", "is_contiguous", "len"),
    *("argmax", "argmin", "argsort", "isnan", "isinf", "isfinite", "sign", "is_cuda", "is_complex"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}
_ABOUT_ATTRIBUTES = {
    "shape",
    "device",
    "dtype",
    "ndim",
    "layout",
    "requires_grad",
    "indices",
    "is_cuda",
    "is_quantized",
}
# "values" are those of topk, max and sort, which say themselves whether they have a rule
_VIEWS = {"T", "mT", "H", "mH", "data", "values"}
# whose second tensor says a shape or a type only
_LIKE = {"view_as", "reshape_as", "expand_as", "type_as", "to"}
# a length or deviation, by which a norm written by hand scales its signal: held constant, as in torch's own norms
_LENGTHS = {"norm", "vector_norm", "linalg_vector_norm", "linalg_norm", "std", "var", "rsqrt"}
_QUOTIENTS = {"truediv", "div", "divide", "itruediv", "true_divide"}


class Read(NamedTuple):
    """What a node is, and what it reads."""

    kind: Kind | None
    signals: tuple[Node, ...]
    """Where the node's relevance would go."""


def read_signals(nodes: list[Node], network: nn.Module, start: Node, own: tuple[Kind, ...]) -> dict[Node, Read]:
    """The nodes that hold signals, in order.

    Args:
        own: module types with a rule of their own, which may read several signals.
    """
    read = {start: Read(None, ())}
    for node in nodes:
        if node.op == "output" or not any(source in read for source in node.all_input_nodes):
            continue
        name = "" if node.op == "call_module" else function_name(node)
        if name in _ABOUT or (name == "getattr" and node.args[1] in _ABOUT_ATTRIBUTES):
            continue
        if name == "getitem" and _is_place(node, read, network):
            continue
        signals = tuple(place for place in _nodes((node.args, node.kwargs)) if place in read)
        if name in _LIKE:
            signals = signals[:1]
        found = _understood(node, name, kind_of(node, network), signals, read, network, own)
        if found.kind is not Piece and any(_is_several(read[one].kind, one, network) for one in signals):
            found = Read(None, signals)
        read[node] = found
    return read


def _understood(
    node: Node,
    name: str,
    kind: Kind | None,
    signals: tuple[Node, ...],
    read: dict[Node, Read],
    network: nn.Module,
    own: tuple[Kind, ...],
) -> Read:
    first = _first_places(node)
    if kind in (Add, Gate) or (kind is LinearMap and len(signals) == 1):
        if name == "addcmul" and len(signals) > 1:
            return Read(None, signals)
        if kind in (Add, Gate) and len(signals) == 1:
            return Read(Offset if kind is Add else Scale, signals)
        return Read(kind, _without_gate(node, signals, read) if kind is Gate else signals)
    if kind is LinearMap and len(signals) == 2:
        weights = [_attends(signal, read) for signal in signals]
        if sorted(weights) == [False, True]:
            return Read(Mixed, signals if weights[0] else signals[::-1])
        return Read(Product, signals)
    if kind is Attention:
        # a mask made from signals has no rule; a query that is learned takes no relevance
        roles = attended(node)
        known = tuple(role for role in roles if role in read)
        follows = roles[2] in read and sorted(map(str, known)) == sorted(map(str, signals))
        return Read(kind, known) if follows else Read(None, signals)
    if name == "getattr":
        return Read(MOVE[0] if node.args[1] in _VIEWS else None, signals)
    if name == "getitem" and signals == first and _is_several(read[signals[0]].kind, signals[0], network):
        return Read(Piece if isinstance(node.args[1], int) else None, signals)
    if kind is Concat or name == "stack":
        # a constant among the parts takes its share away, which a composite must have a rule for
        return Read(kind if signals == first else Beside if len(signals) < len(first) else None, signals)
    if node.op == "call_module" and kind is not None and issubclass(kind, own):
        return Read(kind, signals)
    # what comes after the first argument are weights, sizes and settings
    return Read(kind if signals == first[:1] and kind is not LinearMap else None, signals)


def _first_places(node: Node) -> tuple[Any, ...]:
    place: Any = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return tuple(place) if isinstance(place, list | tuple) else (place,)


def _is_place(node: Node, read: dict[Node, Read], network: nn.Module) -> bool:
    """Whether these are the places of a pooling's maxima, its second output."""
    source: Any = node.args[0]
    kind = read[source].kind if source in read else None
    return bool(kind and issubclass(kind, MAXIMUM) and _is_several(kind, source, network) and node.args[1] in (1, -1))


def _is_several(kind: Kind | None, node: Node, network: nn.Module) -> bool:
    """Whether the node puts out several tensors."""
    if kind is Split:
        return True
    if kind is None or not issubclass(kind, MAXIMUM):
        return False
    where: Any = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return getattr(where, "return_indices", False) if where is not None else node.kwargs.get("return_indices") is True


def _nodes(value: Any) -> Iterator[Node]:
    """The nodes in an argument, in order and as often as they stand there."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, slice):
        yield from _nodes((value.start, value.stop, value.step))
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _nodes(one)


def _without_gate(node: Node, signals: tuple[Node, ...], read: dict[Node, Read]) -> tuple[Node, ...]:
    """The signal alone, where the other factor ends in a bounded activation; both where only the shapes can tell.

    A quotient's denominator is held constant, as the deviation of a norm is.
    """
    if function_name(node) in _QUOTIENTS:
        return signals[:1]
    for through in ((), (Gate, *AVERAGE)):
        closing = [_closes(signal, read, through) for signal in signals]
        if sorted(closing) == [False, True]:
            return (signals[closing.index(False)],)
    return signals


def _attends(node: Node, read: dict[Node, Read]) -> bool:
    """Whether a signal is attention's weights: a softmax, moved, rescaled, or mixed over the heads by weights."""
    kind, signals = read[node]
    while kind and issubclass(kind, (Scale, *IDENTITY, *RESHAPE, *MOVE, *WEIGHTED, Piece)) and len(signals) == 1:
        node = signals[0]
        kind, signals = read[node]
    return bool(kind and issubclass(kind, nn.Softmax))


def _closes(node: Node, read: dict[Node, Read], through: tuple[Kind, ...]) -> bool:
    """Whether a signal ends in a bounded activation or a length, rescaled, moved, or handed ``through``."""
    kind, signals = read[node]
    # a gate that reads one signal is a quotient, or its own gate is set apart already
    while kind and issubclass(kind, (Scale, *RESHAPE, *MOVE, *through)) and len(signals) == 1:
        node = signals[0]
        kind, signals = read[node]
    length = node.op in ("call_function", "call_method") and function_name(node) in _LENGTHS
    return length or bool(kind and issubclass(kind, BOUNDED))
