"""The state of a training between two steps, which a checkpoint keeps."""

from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from heatproof.errors import RunError
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
    def load(cls, saved: dict[str, Any], spec: str) -> "TrainingState":
        """The state of a checkpoint.

        Raises:
            RunError: it was made with other settings, or is no state of a training.
        """
        rows = [entry.name for entry in fields(History)]
        own = [entry.name for entry in fields(cls) if entry.name != "history"]
        if missing := sorted({*own, *rows} - saved.keys()):
            raise RunError(f"the checkpoint holds no {', '.join(missing)}; delete it to begin anew")
        if saved["spec"] != spec:
            raise RunError(
                f"the checkpoint was made with {saved['spec']} and this is {spec}; "
                "give the same settings to go on, or begin anew in another folder"
            )
        state = cls(**{name: saved[name] for name in own}, history=History(**{name: saved[name] for name in rows}))
        state.key = (state.key[0], state.key[1])
        return state
