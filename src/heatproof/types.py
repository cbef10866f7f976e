"""The nouns of the drawing: what flows between the boxes, and what a box must be able to do.

Boxes are plain callables known by :class:`typing.Protocol`; nobody inherits. Where a box has settings it is a frozen
dataclass made by :func:`settings`, whose text (``repr``) is what a user types on the command line, what a run records
and what Python builds.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import wraps
from types import CodeType, FunctionType
from typing import Any, NamedTuple, Protocol, TypeVar, dataclass_transform, runtime_checkable

from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from heatproof.front import door
from heatproof.habits import checked_call, checked_settings, not_there, way

T = TypeVar("T")

Images = Float[Tensor, "batch channels height width"]
"""Pixels in [0, 1]; normalisation belongs to the model."""
Labels = Int[Tensor, "batch"]
"""The true class of each image."""
Targets = Int[Tensor, "batch"]
"""The class that is explained, or wanted by an attack."""
Logits = Float[Tensor, "batch classes"]
Heatmaps = Float[Tensor, "batch rows cols"]
"""Any explanation: signed, at its native resolution, not normalised."""
PerImage = Float[Tensor, "batch"]
"""One value per image; tables take means and intervals."""
Layered = str | nn.Module | None
"""A layer by its name, the module itself, or ``None``: the model's default."""
Classes = Targets | Int[Tensor, ""] | int | str | Sequence[int | str]
"""The class to explain: one for all images or one for each, by number or by the model's name for it."""


class Interval(NamedTuple):
    """Between what a noisy explainer's map lies, cell by cell.

    Attributes:
        lower, upper: in the map's own unit; the map lies between them.
        level: how often at least each cell's interval holds what it is an interval of.
    """

    lower: Heatmaps
    upper: Heatmaps
    level: float


class Certificate(NamedTuple):
    """What no change of the pixels inside a radius can undo.

    Attributes:
        share: of what was to be certified (cells of the map, or its highest cells), in [0, 1].
        radius: of the l2 ball in pixel units of [0, 1], over all pixel values.
        confidence: how often at least the whole certificate of an image is right, over draws of the noise.
        cells: 1 where a cell is certified to stay among the highest, -1 to stay below, 0 where nothing is known;
            ``None`` where the certificate is of a number only.
    """

    share: PerImage
    radius: float
    confidence: float
    cells: Heatmaps | None = None


OF_SHOWN = ("classes", "probabilities", "layers", "answer", "rows", "table", "to_pandas", "picture", "save")
"""What an explanation is asked for directly, and :class:`heatproof.Explained` knows."""


class _Parts(NamedTuple):
    heatmaps: Heatmaps
    logits: Logits
    targets: Targets


class Seen(NamedTuple):
    """What an explanation is of.

    Attributes:
        names: of the photos, where they came as files or pictures; empty for tensors.
    """

    explainer: "Explainer"
    model: nn.Module
    images: Images
    names: tuple[str, ...]


class Explanation(_Parts):
    """What one forward pass of an explainer yields: ``heatmaps, logits, targets``, of which it is the tuple.

    One that an explainer handed out knows its photos and is shown as the answer of :func:`heatproof.explain` is: the
    photo and the map over it, class, probability and scale. A copy or a pickle forgets them.
    """

    seen: Seen | None = None
    """What it is of; ``None`` where it was put together by hand, copied or unpickled."""
    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__  # type: ignore[assignment]  # by identity

    def numpy(self) -> NDArray[Any]:
        """The heatmaps as an array ``[batch, rows, cols]``."""
        return self.heatmaps.detach().float().cpu().numpy()

    @property
    def interval(self) -> Interval | None:
        """Where the explainer knows one."""
        return None

    @property
    def certificate(self) -> Certificate | None:
        """Where the explainer gives one."""
        return None

    def remember(self, seen: Seen | None) -> None:
        """Keep what it is of, or forget it."""
        vars(self).pop("_shown", None)
        self.seen = seen

    @property
    def shown(self) -> Any:
        """The same as :class:`heatproof.Explained`, whose ``.classes``, ``.rows``, ``.save(FILE)`` are ours as well.

        Raises:
            InputError: it does not know its photos.
        """
        kept = vars(self)
        if "_shown" not in kept:
            kept["_shown"] = door("show")(self)
        return kept["_shown"]

    def show(self) -> None:
        """Show photo and map: in a notebook below the cell, elsewhere in the system's viewer."""
        self.shown.show()

    def _repr_png_(self) -> bytes | None:
        return None if self.seen is None else self.shown._repr_png_()

    def _repr_html_(self) -> str | None:
        return None if self.seen is None else self.shown._repr_html_()

    def __repr__(self) -> str:
        """Each photo's class and probability, or only the shapes where the photos are not known."""
        if self.seen is not None:
            return repr(self.shown)
        parts = (f"{name}={list(part.shape)}" for name, part in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({', '.join(parts)})"

    def __getattr__(self, name: str) -> Any:
        if name in OF_SHOWN and self.seen is not None:
            return getattr(self.shown, name)
        tensor = not name.startswith("_") and hasattr(Tensor, name)
        more = "; its maps are a tensor, explanation.heatmaps" if tensor else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{more}")

    def __getstate__(self) -> dict[str, Any]:
        # not the network and the photos
        return {name: value for name, value in vars(self).items() if name not in ("seen", "_shown")}


class WithInterval(Explanation):
    """An explanation whose maps have an interval."""

    _interval: Interval

    @classmethod
    def of(cls, explanation: Explanation, interval: Interval) -> "WithInterval":
        made = cls(*explanation)
        made._interval = interval
        return made

    @property
    def interval(self) -> Interval:
        return self._interval


class Certified(Explanation):
    """An explanation with a certificate."""

    _certificate: Certificate

    @classmethod
    def of(cls, explanation: Explanation, certificate: Certificate) -> "Certified":
        made = cls(*explanation)
        made._certificate = certificate
        return made

    @property
    def certificate(self) -> Certificate:
        return self._certificate


@runtime_checkable
class Explainer(Protocol):
    """A pure function of (model, images, targets) that leaves the model as it found it.

    ``targets=None`` explains the predicted class. With ``create_graph=True`` heatmaps and logits can be differentiated
    with respect to the pixels and to the weights.
    """

    def __call__(
        self, model: nn.Module, images: Images, targets: Targets | None = None, *, create_graph: bool = False
    ) -> Explanation: ...


class Attribution(NamedTuple):
    """What an explainer says of each channel of each pixel, with the logits of the same pass."""

    values: Images
    logits: Logits
    targets: Targets


@runtime_checkable
class PerChannel(Explainer, Protocol):
    """An explainer that says something of each channel of each pixel, and sums it up."""

    def attribute(
        self, model: nn.Module, images: Images, targets: Classes | None, *, create_graph: bool
    ) -> Attribution: ...

    def summed(self, values: Images) -> Heatmaps: ...


@runtime_checkable
class Signed(Protocol):
    """An explainer that says whether its maps have two sides; others are taken for one-sided in figures."""

    @property
    def signed(self) -> bool: ...


@runtime_checkable
class AtLayer(Protocol):
    """An explainer that reads a layer; ``None`` or ``"default"``: the model's default layer."""

    @property
    def layer(self) -> Layered: ...


def is_signed(explainer: Explainer) -> bool:
    """Whether zero is the middle of its maps' scale."""
    return isinstance(explainer, Signed) and bool(explainer.signed)


def inside(explainer: object) -> tuple[Explainer, ...]:
    """The explainers that an explainer wraps, in its fields ``explainer`` or ``explainers``."""
    if not is_dataclass(explainer):
        return ()
    one, several = getattr(explainer, "explainer", None), getattr(explainer, "explainers", ())
    return (*(() if one is None else (one,)), *several)


def changed_inside(explainer: T, change: Callable[[Any], Any]) -> T:
    """The explainer, with ``change`` made to each explainer that it wraps; itself where nothing changes."""
    before = inside(explainer)
    after = tuple(change(one) for one in before)
    if all(a is b for a, b in zip(after, before, strict=True)):
        return explainer
    if getattr(explainer, "explainer", None) is not None:
        return replace(explainer, explainer=after[0])  # type: ignore[type-var]
    return replace(explainer, explainers=after)  # type: ignore[type-var]


def redrawn(explainer: T, number: int) -> T:
    """The explainer with other draws of its noise, and of what it wraps; one that draws nothing is itself.

    ``number`` 0 leaves the draws as they are. Where a rank or a vote has no derivative, its surrogate is taken, which
    an explainer names in its field ``surrogate``.
    """
    explainer = changed_inside(explainer, lambda one: redrawn(one, number))
    if not is_dataclass(explainer) or isinstance(explainer, type):
        return explainer
    names = {field.name for field in fields(explainer)}
    new: dict[str, Any] = {}
    if number and "seed" in names:
        new["seed"] = (explainer.seed * 1_000_003 + number) % 2**62  # type: ignore[attr-defined]
    if "surrogate" in names:
        new["surrogate"] = True
    return replace(explainer, **new) if new else explainer


@runtime_checkable
class Objective(Protocol):
    """What an attack raises, one value per image; up is success."""

    def __call__(self, images: Images, /) -> PerImage: ...


@runtime_checkable
class Attack(Protocol):
    """Changes pixels inside a ball to raise an objective; knows no model."""

    def __call__(self, objective: Objective, images: Images) -> Images: ...


@runtime_checkable
class BallAttack(Attack, Protocol):
    """An attack with a radius, which audits set to each of their epsilons."""

    @property
    def epsilon(self) -> float: ...


@runtime_checkable
class DirectedAttack(BallAttack, Protocol):
    """An attack whose direction does not depend on its epsilon: computed once, then followed to each."""

    def direction(self, objective: Objective, images: Images) -> Images: ...

    def along(self, images: Images, direction: Images) -> Images: ...


@runtime_checkable
class GradedAttack(Attack, Protocol):
    """An attack with strengths of its own in place of a radius: the severities of ImageNet-C."""

    @property
    def levels(self) -> tuple[float, ...]: ...

    def at(self, level: float) -> Attack:
        """The same attack at one of them."""
        ...


@runtime_checkable
class Penalty(Protocol):
    """How far heatmaps are from lying as wanted, one value per image; low is fooled.

    The call is what is trained on, with a derivative in ``heatmaps``; ``test_loss`` is what is judged by.

    Attributes:
        success: the closed interval of test losses that counts as fooled.
        needs_reference: ``reference`` must hold the clean model's maps; otherwise any maps of the shape do.
    """

    @property
    def success(self) -> tuple[float, float]: ...
    @property
    def needs_reference(self) -> bool: ...
    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage: ...
    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage: ...


@runtime_checkable
class Rectified(Protocol):
    """An explainer that can leave out the ReLU over its maps."""

    @property
    def relu(self) -> bool: ...


def _text(self: Any) -> str:
    """``GradCAM(layer='layer4')``: the fields that differ from their defaults, as Python and the CLI read them."""
    shown = []
    for field in fields(self):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(self, field.name)
        if not field.repr or (type(value) is type(default) and value == default):
            continue
        shown.append(f"{field.name}={_function_text(value) if isinstance(value, FunctionType) else repr(value)}")
    return f"{type(self).__name__}({', '.join(shown)})"


def _function_text(function: FunctionType) -> str:
    """What a record can honestly say of a function: whose it is, and digits of its code; it cannot be read back."""
    code = function.__code__
    said = code.co_code + repr((code.co_names, [c for c in code.co_consts if not isinstance(c, CodeType)])).encode()
    digits = hashlib.sha256(said).hexdigest()[:8]
    return f"<{function.__module__}.{function.__qualname__}, code {digits}>"


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass whose ``repr`` shows only what differs from the defaults.

    >>> @settings
    ... class Frame:
    ...     width: int = 1
    ...     soft: bool = False
    >>> Frame(), Frame(width=2)
    (Frame(), Frame(width=2))
    """
    made = dataclass(frozen=True, repr=False)(cls)
    made.__repr__ = _text  # type: ignore[method-assign]
    call = getattr(made, "__call__", None)  # noqa: B004 its parameters are wanted
    shown = way(call) if call is not None and isinstance(call, FunctionType) else ""
    names = [field.name for field in fields(made) if field.init]  # type: ignore[arg-type]
    made.__init__ = checked_settings(made.__init__, names, shown)  # type: ignore[misc]
    if shown and call is not None:
        explains = shown.startswith("(model")
        made.__call__ = checked_call(takes_photos(call) if explains else call)  # type: ignore[attr-defined]
        if explains and "__getattr__" not in vars(made):
            made.__getattr__ = not_there  # type: ignore[attr-defined]
    return made  # type: ignore[return-value]


def takes_photos(call: Callable[..., Any]) -> Callable[..., Any]:
    """``__call__`` of an explainer that also takes photos, and whose answer knows what it is of.

    Tensors go on as they are. A path, a picture of Pillow's, an array or a list of these is opened as the model's
    photos are; of one photo and several classes in a list each class gets a map.
    """

    @wraps(call)
    def opened(self: Any, model: Any, images: Any, targets: Any = None, **named: Any) -> Any:
        names: tuple[str, ...] = ()
        if not isinstance(images, Tensor) or isinstance(targets, list | tuple):
            images, names = door("open")(model, images, targets)
        found = call(self, model, images, targets, **named)
        if isinstance(found, Explanation):
            # without its graph, which may be that of an attack
            found.remember(Seen(self, model, images.detach() if images.requires_grad else images, names))
        return found

    return opened
