"""The state of a training between two steps, which a checkpoint keeps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from heatproof.errors import RunError
from heatproof.tensor_files import is_finite, why_not_plain
from heatproof.training.history import History


@runtime_checkable
class Checkpoint(Protocol):
    """Where the state lies while a training lasts: tensors, numbers and texts in a dict."""

    def load(self) -> dict[str, Any] | None: ...
    def save(self, state: dict[str, Any]) -> None: ...


@dataclass
class TrainingState:
    """All that a training needs to go on as if it had never been stopped.

    Attributes:
        spec: all that the weights depend on, but for the data; a checkpoint with another one is refused.
        step: steps done.
        weights: what is trained, by name.
        good: the weights to hand out: the best checkpoint inside the budget.
        optimizer: its own state.
        key: the score and the accuracy of ``good``.
        waited: evaluations since then.
        weight: ``settings.weight`` as the budget has adapted it.
        seconds: time spent, over all attempts.
    """

    spec: str
    weight: float
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    good: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    key: tuple[float, float] = (-1.0, -1.0)
    waited: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=History)

    def save(self) -> dict[str, Any]:
        """Tensors, numbers, texts, lists and dicts only, as ``torch.load(weights_only=True)`` reads them."""
        saved = {**vars(self), "key": list(self.key), **vars(self.history)}
        del saved["history"]
        return saved

    @classmethod
    def load(cls, saved: dict[str, Any], spec: str, name: str = "the checkpoint") -> "TrainingState":
        """The state of a checkpoint, each of its parts of the type that it was saved with.

        Args:
            name: of the checkpoint, for what is said of it.

        Raises:
            RunError: it was made with other settings, or is no state of a training.
        """
        rows = [entry.name for entry in fields(History)]
        own = [entry.name for entry in fields(cls) if entry.name != "history"]
        if missing := sorted({*own, *rows} - saved.keys()):
            raise RunError(f"{name} holds no {', '.join(missing)}; delete it to begin anew")
        if reason := _what_is_wrong(saved):
            raise RunError(f"{name} holds no training: {reason}; delete it to begin anew")
        if saved["spec"] != spec:
            raise RunError(
                f"{name} was made with {saved['spec']} and this is {spec}; "
                "give the same settings to go on, or begin anew in another folder"
            )
        state = cls(**{name: saved[name] for name in own}, history=History(**{name: saved[name] for name in rows}))
        state.key = (state.key[0], state.key[1])
        return state

    def fits(self, own: dict[str, Tensor], trained: Sequence[Tensor]) -> bool:
        """Whether weights and optimizer are of a model with these tensors.

        Args:
            own: all that changes.
            trained: what the optimizer moves, in its order.
        """
        shapes = {name: value.shape for name, value in own.items()}
        if any(
            {name: value.shape for name, value in tensors.items()} != shapes for tensors in (self.weights, self.good)
        ):
            return False
        moments = self.optimizer.get("state")
        return isinstance(moments, dict) and all(
            type(place) is int and 0 <= place < len(trained) and _is_moment(entry, trained[place])
            for place, entry in moments.items()
        )


TYPES: dict[str, Any] = {
    "spec": str,
    "step": int,
    "weights": dict,
    "good": dict,
    "optimizer": dict,
    "rows": list,
    "best": int,
    "stopped": str,
    "key": list,
    "waited": int,
    "weight": float | int,
    "seconds": float | int,
}
"""What a checkpoint holds, and of which type."""


def _what_is_wrong(saved: dict[str, Any]) -> str | None:
    """Why this is no state of a training."""
    for name, kind in TYPES.items():
        value = saved[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"its {name} is {type(value).__name__}"
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            return f"its {name} is {value}"
    for tensors in (saved["weights"], saved["good"]):
        for name, value in tensors.items():
            if not isinstance(value, Tensor) or why_not_plain(value) or not is_finite(value):
                return f"its weights {str(name)[:100]} are no finite numbers"
    rows, key = saved["rows"], saved["key"]
    if not rows or not all(isinstance(row, dict) and type(row.get("step")) is int for row in rows):
        return "its history has no steps"
    steps = [row["step"] for row in rows]
    if steps != sorted(set(steps)) or steps[0] < 0 or steps[-1] != saved["step"]:
        return f"its history is not one of {saved['step']} steps"
    if any(not isinstance(value, int | float | None) for row in rows for value in row.values()):
        return "its history holds other things than numbers"
    if len(key) != 2 or not all(isinstance(value, int | float) and math.isfinite(value) for value in key):
        return "it does not say how good its best weights are"
    return None


def _is_moment(entry: Any, parameter: Tensor) -> bool:
    """Whether this is what Adam knows of a parameter."""
    if not isinstance(entry, dict) or entry.keys() != {"step", "exp_avg", "exp_avg_sq"}:
        return False
    if not all(isinstance(v, Tensor) and not why_not_plain(v) and is_finite(v) for v in entry.values()):
        return False
    return entry["step"].numel() == 1 and entry["exp_avg"].shape == entry["exp_avg_sq"].shape == parameter.shape
