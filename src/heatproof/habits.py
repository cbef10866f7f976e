"""What users of other packages type, and what it is here: a sentence in the place of Python's bare TypeError."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heatproof.errors import SpecError, did_you_mean

CALLED_HERE: dict[str, tuple[str, ...]] = {
    "target_layers": ("layer",),
    "target_layer": ("layer",),
    "layers": ("layer",),
    "eps": ("epsilon",),
    "alpha": ("step_size",),
    "n_steps": ("steps",),
    "nb_iter": ("steps",),
    "nt_samples": ("samples", "n"),
    "n_samples": ("samples", "n"),
    "stdevs": ("sigma",),
    "std": ("sigma",),
    "baselines": ("baseline",),
    "sliding_window_shapes": ("patch",),
    "strides": ("stride",),
    "n_masks": ("masks",),
    "input_tensor": ("images",),
    "inputs": ("images",),
    "target": ("targets",),
    "target_category": ("targets",),
}
"""Names of pytorch-grad-cam, captum and torchattacks, and those of the same setting here."""
NOT_NEEDED = {
    "use_cuda": "maps are made where the model is",
    "device": "the work is done where the model is",
    "reshape_transform": "where the rows and columns of tokens are is found out",
}
MODELS = ("model", "forward_func", "net")


def unknown_setting(name: str, unknown: Sequence[str], known: Iterable[str]) -> str:
    """The sentence for settings that ``name`` does not have.

    >>> unknown_setting("FGSM", ["eps"], ["epsilon"])
    "FGSM has no setting 'eps'; it is called epsilon here"
    """
    known = list(known)
    said = []
    for one in unknown:
        here = [other for other in CALLED_HERE.get(one, ()) if other in known]
        way = f"it is called {here[0]} here" if here else NOT_NEEDED.get(one) or did_you_mean(one, known)
        alone = ", and takes one module or name: explain once for each" if here == ["layer"] and one[-1] == "s" else ""
        said.append(f"{name} has no setting {one!r}; {way}{alone}")
    return "; ".join(said)


def checked_settings(init: Callable[..., None], fields: Sequence[str], call: str) -> Callable[..., None]:
    """``__init__`` of settings that says what is wrong with a model among them, or a setting of another name.

    Args:
        init: the dataclass's own.
        fields: names of the settings.
        call: how an object is called, ``"(model, images, targets)"``; empty where it takes no model.
    """

    @functools.wraps(init)
    def checked(self: Any, *given: Any, **named: Any) -> None:
        name = type(self).__name__
        unknown = [one for one in named if one not in fields]
        modelled = [one for one in unknown if one in MODELS] if call else []
        if modelled or (call and _begins_with_a_model(given, fields)):
            others = [one for one in unknown if one not in modelled]
            settings = "layer=module" if "layer" in fields else "..."
            more = f". {unknown_setting(name, others, fields)}" if others else ""
            raise SpecError(f"{name} is made without a model, and called with one: {name}({settings}){call}{more}")
        if unknown:
            raise SpecError(unknown_setting(name, unknown, fields))
        init(self, *given, **named)

    return checked


def _begins_with_a_model(given: Sequence[Any], fields: Sequence[str]) -> bool:
    """Whether the first value is a network where no module belongs, or one with its layers behind it."""
    # here and below: what needs no network (help, lists, wrong usage) does not wait for torch
    from torch import nn

    if not given or not isinstance(given[0], nn.Module):
        return False
    if len(given) > 1 and isinstance(given[1], nn.Module | list | tuple):
        return True
    return not fields or fields[0] not in ("layer", "explainer", "explainers")


def checked_call(call: Callable[..., Any]) -> Callable[..., Any]:
    """``__call__`` that says how it is called, where model or objective are left out or images have another name."""
    shown = way(call)
    known = list(inspect.signature(call).parameters)[1:]

    @functools.wraps(call)
    def checked(self: Any, *given: Any, **named: Any) -> Any:
        from torch import Tensor

        name = type(self).__name__
        unknown = [one for one in named if one not in known]
        if unknown or len(given) + len(named) < 2 or (given and isinstance(given[0], Tensor)):
            more = f". {unknown_setting('the call', unknown, known)}" if unknown else ""
            raise SpecError(f"{name} is called with a model: {name}(...){shown}{more}")
        return call(self, *given, **named)

    return checked


def way(call: Callable[..., Any]) -> str:
    """How an explainer or an attack is called; empty for anything else."""
    begins = list(inspect.signature(call).parameters)[1:4]
    if begins == ["model", "images", "targets"]:
        return "(model, images, targets)"
    return "(hp.misclassify(model, labels), images)" if begins == ["objective", "images"] else ""
