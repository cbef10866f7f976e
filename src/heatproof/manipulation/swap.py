"""The two classes of a fooling that exchanges their heatmaps."""

from typing import Protocol, runtime_checkable

from torch import nn

from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.types import Penalty


@runtime_checkable
class Swap(Penalty, Protocol):
    """A penalty on pairs of rows: the same image explained for ``first``, then for ``second``."""

    @property
    def first(self) -> int | str: ...
    @property
    def second(self) -> int | str: ...


def swapped_classes(penalty: Penalty, model: nn.Module) -> tuple[int, int] | None:
    """The numbers of the two classes that a swap names; ``None`` for every other penalty.

    Raises:
        InputError: a name is no class of the model.
    """
    if not isinstance(penalty, Swap):
        return None
    first, second = penalty.first, penalty.second
    if isinstance(model, Classifier):
        return model.class_index(first), model.class_index(second)
    if not (isinstance(first, int) and isinstance(second, int)):
        raise InputError(f"a bare network has no class names; give {penalty!r} the classes as numbers")
    return first, second
