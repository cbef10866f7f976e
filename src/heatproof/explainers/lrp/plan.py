"""Which rule every node that relevance passes gets, and what the forward pass has to keep for it."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import fx, nn

from heatproof.errors import LayerError, ModelError
from heatproof.explainers.lrp import attention, rules
from heatproof.explainers.lrp.composites import SHAPES_ONLY, Composite, Rule, own_types, rule_for
from heatproof.explainers.lrp.graph import output_of
from heatproof.explainers.lrp.kinds import (
    AVERAGE,
    FOLDS_NORM,
    IDENTITY,
    LINEAR,
    MAXIMUM,
    MOVE,
    NONNEGATIVE,
    NORM,
    RECTIFIER,
    RESHAPE,
    WEIGHTED,
    Add,
    Attention,
    Beside,
    Concat,
    Gate,
    Kind,
    Mixed,
    Piece,
    Product,
    Split,
    function_name,
    writes_in_place,
)
from heatproof.explainers.lrp.signals import Read, read_signals

Node = fx.Node

_THROUGH = IDENTITY + MAXIMUM + RESHAPE + MOVE + (Concat, Split)


class Step(NamedTuple):
    """One node on the way back."""

    node: Node
    kind: Kind
    rule: Rule
    signals: tuple[Node, ...]
    norm: Node | None
    """The batch norm that is folded into this layer."""
    nonnegative: tuple[bool, ...]
    rectified: bool
    first: bool
    recorded: bool
    """Whether the layer's output is kept."""
    refused: str = ""
    """What is said when relevance arrives: there is no rule, and only the shapes tell whether some does."""


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]
    """In the order of the walk, from the logits down."""
    start: Node
    """The node of the pixels."""
    end: Node
    """The node of the logits."""
    stop: Node
    """Where the walk ends."""
    read_later: frozenset[Node]
    """Signals whose values are read after the forward pass; of all others only the shape stays."""
    freed: dict[Node, tuple[Node, ...]]
    """After this node, those are not read again."""
    overwriting: frozenset[Node]
    formatless: bool
    """Whether all that runs on signals is torch's own, and so indifferent to the memory format."""


def make_plan(
    network: nn.Module, graph: fx.Graph, composite: Composite, fold: bool, stop: Any, key: str | int | None = None
) -> Plan:
    """Work out the walk from the logits to ``stop`` (``None``: the pixels).

    Raises:
        ModelError: for a layer without a rule that relevance is certain to reach, naming it, its place, and how to
            add one.
        LayerError: for a layer that no relevance can reach.
    """
    nodes = list(graph.nodes)
    start = next(node for node in nodes if node.op == "placeholder")
    end = _logits(nodes[-1].args[0], network, key)
    if stop is None:
        stop = start
    read = read_signals(nodes, network, start, own_types(composite))
    folded = _folded(read, stop) if fold else {}
    below = {stop}
    for node, what in read.items():
        if any(source in below for source in what.signals):
            below.add(node)
    if end not in below:
        raise LayerError(no_relevance(stop, network))
    passing = {n for n, r in read.items() if r.kind and issubclass(r.kind, NORM) and (not fold or n in folded.values())}
    first = _first(read, start, passing)
    nonnegative = _nonnegative(read)
    users: dict[Any, list[Step]] = {end: []}
    reached, steps = {end}, []
    for node in reversed(nodes):
        if node is stop or node not in users or node not in below:
            continue
        kind, signals = read[node]
        rule = rules.pass_on if node in passing else kind and rule_for(composite, kind, first=node in first)
        refused = ""
        if kind is None or rule is None:
            refused = _no_rule(node, network, kind)
            if node in reached:
                raise ModelError(refused)
        step = Step(
            node=node,
            kind=kind or object,
            rule=rule or rules.pass_on,
            signals=signals,
            norm=folded.get(node),
            nonnegative=tuple(nonnegative[source] for source in signals),
            rectified=bool(users[node]) and all(_rectifies(user) for user in users[node]),
            first=node in first,
            recorded=bool(kind and issubclass(kind, LINEAR)) and node not in folded,
            refused=refused,
        )
        steps.append(step)
        if node in reached and not (kind is Gate and len(signals) > 1):
            reached.update(_handed(step))
        for source in _handed(step):
            users.setdefault(source, []).append(step)
    read_later = {source for step in steps if step.rule not in SHAPES_ONLY for source in step.signals}
    read_later |= {step.node for step in steps if step.recorded} | {start, end}
    overwriting = {node for node in nodes if node.args and writes_in_place(node, network)}
    return Plan(
        tuple(steps),
        start,
        end,
        stop,
        frozenset(read_later),
        _last_uses(nodes, read),
        frozenset(overwriting),
        formatless=all(kind is not None and _torch_own(kind) for kind, _ in list(read.values())[1:]),
    )


def _handed(step: Step) -> tuple[Node, ...]:
    """The signals that the rule may hand relevance to."""
    held = isinstance(step.rule, partial) and step.rule.func in attention.HOLDING
    return step.signals[-1:] if held else step.signals


def _logits(returned: Any, network: nn.Module, key: str | int | None) -> Node:
    """The node of the logits in what the graph returns."""
    end = output_of(returned, key)
    if not isinstance(end, Node):
        keys = f"a dictionary of {', '.join(map(str, returned))}" if isinstance(returned, dict) else ""
        several = f"a {type(returned).__name__}" + (
            f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        )
        raise ModelError(
            f"LRP starts at logits; {type(network).__name__} returns {keys or several}: say which part they are, "
            "Classifier(network, logits_key=...)"
        )
    return end


def _folded(read: dict[Node, Read], stop: Node) -> dict[Node, Node]:
    """Layer -> the batch norm behind it, where nothing else reads the layer."""
    found = {}
    for node, (kind, signals) in read.items():
        if kind and issubclass(kind, NORM) and signals[0] is not stop:
            before = read[signals[0]].kind
            readers = [user for user in signals[0].users if user in read and signals[0] in read[user].signals]
            if before and issubclass(before, FOLDS_NORM) and readers == [node]:
                found[signals[0]] = node
    return found


def _first(read: dict[Node, Read], start: Node, passing: set[Node]) -> set[Node]:
    """Weighted layers with nothing weighted between them and the pixels."""
    raw, first = {start}, set()
    for node, (kind, signals) in read.items():
        if any(signal in raw for signal in signals):
            weighted = kind and issubclass(kind, WEIGHTED) and node not in passing
            (first if weighted else raw).add(node)
    return first


def _nonnegative(read: dict[Node, Read]) -> dict[Node, bool]:
    """Whether a signal is known to be >= 0."""
    found: dict[Node, bool] = {}
    for node, (kind, signals) in read.items():
        if kind is None:
            found[node] = False
        elif issubclass(kind, NONNEGATIVE):
            found[node] = True
        elif issubclass(kind, (*_THROUGH, *AVERAGE, Piece)) or (kind is Add and "sub" not in function_name(node)):
            found[node] = all(found[signal] for signal in signals) and not _pads_with_negative(node)
        else:
            found[node] = False
    return found


def _pads_with_negative(node: Node) -> bool:
    return any(isinstance(value, float | int) and value < 0 for value in (*node.args[3:], *node.kwargs.values()))


def _rectifies(step: Step) -> bool:
    """Whether this reader leaves relevance only on positive values, given that rules are proportional to the value."""
    if issubclass(step.kind, RECTIFIER):
        return True
    adds = step.rule is rules.joined_by_sign and function_name(step.node) in ("add", "iadd") and not step.node.kwargs
    return step.rectified and (adds or (issubclass(step.kind, (*NORM, *_THROUGH, Piece)) and step.rule in SHAPES_ONLY))


def _last_uses(nodes: list[Node], read: dict[Node, Read]) -> dict[Node, tuple[Node, ...]]:
    """After each node, the signals that nobody reads again."""
    last = {source: node for node in nodes for source in node.all_input_nodes if source in read}
    found: dict[Node, tuple[Node, ...]] = {}
    for source, node in last.items():
        found[node] = (*found.get(node, ()), source)
    return found


def _torch_own(kind: Kind) -> bool:
    return kind.__module__.startswith(("torch.nn", "heatproof"))


def no_relevance(stop: Node, network: nn.Module) -> str:
    """The sentence for a layer that has no map."""
    where = stop.target if stop.op == "call_module" else stop.name
    return (
        f"no relevance reaches {where!r} of {type(network).__name__}: the logits do not depend on it, or only through "
        "a gate, which takes none; explain a layer on the way of the signal"
    )


def _no_rule(node: Node, network: nn.Module, kind: Kind | None) -> str:
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        what, way = f"layer {node.target!r} ({type(module).__name__})", f"(({type(module).__name__},), rule)"
    else:
        what, way = f"the function {function_name(node)!r} (node {node.name!r})", "((MyModule,), rule)"
        way += f" for a module MyModule that calls {function_name(node)}"
    if kind is None and function_name(node) == "scaled_dot_product_attention":
        what += " with a mask that is made from the pixels, or values that are not"
    where = next((f", in {m[0]}" for m in reversed(list((node.meta.get("nn_module_stack") or {}).values()))), "")
    other = " here; composite='attnlrp' has one." if kind in (Attention, Beside, Mixed, Product) else "."
    return (
        f"LRP has no rule for {what}{where} of {type(network).__name__}{other} Write one, "
        f"(layer, inputs, relevance) -> relevance, and put {way} first into a composite "
        "(heatproof.explainers.lrp.composites)"
    )
