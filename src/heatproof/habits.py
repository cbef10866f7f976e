"""What users of other packages type, and what it is here: a sentence in the place of Python's bare TypeError."""

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from heatproof.errors import InputError, SpecError, did_you_mean, nearest

P = ParamSpec("P")
R = TypeVar("R")

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
    "samples": ("n",),
    "n": ("samples",),
    "stdevs": ("sigma",),
    "std": ("sigma",),
    "baselines": ("baseline",),
    "sliding_window_shapes": ("patch",),
    "strides": ("stride",),
    "n_masks": ("masks",),
    "input_tensor": ("images",),
    "inputs": ("images",),
    "target": ("targets",),
    "targets": ("target",),
    "target_category": ("targets", "target"),
    "class_idx": ("targets", "target"),
    "method": ("explainer",),
    "explainers": ("explainer",),
    "methods": ("explainer",),
    "attacks": ("attack",),
    "metrics": ("metric",),
    "epsilons": ("epsilon",),
    "images": ("photos", "data"),
    "photos": ("data",),
    "data": ("photos",),
    "n_images": ("limit",),
    "folder": ("out",),
    "output": ("out",),
    "class_names": ("classes",),
    "labels": ("classes",),
    "img_size": ("input_size",),
    "image_size": ("input_size",),
    "size": ("input_size",),
    "target_layer_name": ("default_layer",),
}
"""Names of pytorch-grad-cam, captum and torchattacks, and those of the same setting here."""
NOT_NEEDED = {
    "use_cuda": "maps are made where the model is",
    "device": "the work is done where the model is",
    "reshape_transform": "where the rows and columns of tokens are is found out",
    "num_classes": "how many classes there are is what the network puts out; names are given as classes=[...]",
    "transform": "how photos come to the network is said by input_size, resize, fit, mean and std",
    "preprocess": "how photos come to the network is said by input_size, resize, fit, mean and std",
    "quick": "a first look is limit=60",
    "open": "the result shows itself in a notebook; result.folder / 'report.html' is its page, with out=...",
}
ELSEWHERE_CALLED = {
    "attribute": "an explainer is called, explainer(model, images, targets).heatmaps",
    "forward": "an explainer is called, explainer(model, images, targets)",
    "generate": "an explainer is called, explainer(model, images, targets).heatmaps",
    "explain": "an explainer is called, explainer(model, images, targets)",
    "to": "maps are made where the model is: model.to(device)",
    "cuda": "maps are made where the model is: model.cuda()",
}
"""Methods of other packages' explainers."""
HERE_INSTEAD: dict[str, tuple[str, str]] = {
    "saliency": ("simple_grad()", "SimpleGrad"),
    "vanillagradient": ("simple_grad()", "SimpleGrad"),
    "vanillagradients": ("simple_grad()", "SimpleGrad"),
    "vanillagrad": ("simple_grad()", "SimpleGrad"),
    "gradient": ("simple_grad()", "SimpleGrad"),
    "gradients": ("simple_grad()", ""),
    "gradientxinput": ("input_x_gradient()", "InputXGradient"),
    "gradientinput": ("input_x_gradient()", "InputXGradient"),
    "inputgradient": ("input_x_gradient()", "InputXGradient"),
    "gradienttimesinput": ("input_x_gradient()", "InputXGradient"),
    "inputtimesgradient": ("input_x_gradient()", "InputXGradient"),
    "gradcampp": ("gradcam_plus_plus()", "GradCAMPlusPlus"),
    "layergradcam": ("gradcam(relu=False)", "GradCAM"),
    "gradcamelementwise": ("layercam()", "LayerCAM"),
    "smoothgradcampp": ("smoothed(gradcam_plus_plus())", "Smoothed"),
    "smoothgradcamplusplus": ("smoothed(gradcam_plus_plus())", "Smoothed"),
    "noisetunnel": ("smoothed(simple_grad())", "Smoothed"),
    "guidedbackpropagation": ("guided_backprop()", "GuidedBackprop"),
    "layerwiserelevancepropagation": ("lrp()", "LRP"),
    "epsilongammabox": ("lrp(composite='epsilon_gamma_box')", "LRP(composite='epsilon_gamma_box')"),
    "epsilonplus": ("lrp(composite='epsilon_plus')", "LRP(composite='epsilon_plus')"),
    "epsilonalpha2beta1": ("lrp(composite='alpha2beta1')", "LRP(composite='alpha2beta1')"),
    "ig": ("integrated_gradients()", "IntegratedGradients"),
    "rollout": ("attention_rollout()", "AttentionRollout"),
    "attention": ("attention_rollout()", "AttentionRollout"),
    "transformerattribution": ("chefer()", "Chefer"),
    "featureablation": ("occlusion()", "Occlusion"),
    "occlusionsensitivity": ("occlusion()", "Occlusion"),
    "randomcam": ("random_map()", ""),
    "pixelflipping": ("deletion()", "Deletion"),
    "maxsensitivity": ("sensitivity_max()", "SensitivityMax"),
    "mprt": ("randomisation()", "Randomisation"),
    "modelparameterrandomisation": ("randomisation()", "Randomisation"),
    "modelparameterrandomization": ("randomisation()", "Randomisation"),
    "randomization": ("randomisation()", "Randomisation"),
    "pointgame": ("pointing_game()", ""),
}
"""Other names of what there is here -> (spec, public name)."""
_COVERED = ("which covers parts of the photo as well", "rise() or occlusion()")
_COMPLETE = ("whose values also sum to the change of the score", "integrated_gradients() or lrp()")
AKIN: dict[str, tuple[str, str]] = {
    "lime": _COVERED,
    "shap": _COVERED,
    "kernelshap": _COVERED,
    "shapleyvalues": _COVERED,
    "shapleyvaluesampling": _COVERED,
    "partitionshap": _COVERED,
    "gradientshap": _COMPLETE,
    "expectedgradients": _COMPLETE,
    "deepshap": _COMPLETE,
    "deepliftshap": _COMPLETE,
    "deeplift": _COMPLETE,
    "deeptaylor": ("of which it is the rule with alpha=1 and beta=0", "lrp()"),
    "deeptaylordecomposition": ("of which it is the rule with alpha=1 and beta=0", "lrp()"),
    "excitationbackprop": ("which hands on positive parts as well", "lrp()"),
    "deconvolution": ("which differs in one ReLU", "guided_backprop()"),
    "deconvnet": ("which differs in one ReLU", "guided_backprop()"),
    "fullgrad": _COMPLETE,
    "isscam": ("which masks the photo by activations as well", "scorecam()"),
    "iscam": ("which masks the photo by activations as well", "scorecam()"),
    "sscam": ("which masks the photo by activations as well", "scorecam()"),
    "eigengradcam": ("whose projection is of the activations", "eigencam()"),
    "kpcacam": ("whose projection is linear", "eigencam()"),
}
"""What there is not -> (in what it is akin, spec of what is nearest)."""


def folded(name: str) -> str:
    """A name without case, blanks, underscores and hyphens: as names of a catalog are compared.

    >>> folded("Grad-CAM++"), folded("guided grad_cam")
    ('gradcamplusplus', 'guidedgradcam')
    """
    return "".join(letter for letter in name.replace("++", "plusplus").casefold() if letter.isalnum())


def instead_of(name: str, known: Iterable[str]) -> str | None:
    """Half a sentence for a name that other packages or papers use; ``None`` where it is none, or of another kind.

    Args:
        known: names of the catalog that was asked.

    >>> instead_of("vanilla gradient", ["simple_grad"]), instead_of("saliency", ["pgd"])
    ('it is called simple_grad() here', None)
    """
    entries = {folded(one) for one in known}
    plain = folded(name)
    spec, _ = HERE_INSTEAD.get(plain, ("", ""))
    if spec and folded(spec.partition("(")[0]) in entries:
        return f"it is called {spec} here"
    how, nearest = AKIN.get(plain, ("", ""))
    if nearest and folded(nearest.partition("(")[0]) in entries:
        return f"nearest to it is {nearest}, {how}"
    return None


def public_instead(name: str, known: Iterable[str]) -> str:
    """Half a sentence for a name that :mod:`heatproof` does not have.

    >>> public_instead("Saliency", ["SimpleGrad", "LRP"]), public_instead("GradCam", ["GradCAM", "LRP"])
    ('it is called hp.SimpleGrad here', 'did you mean GradCAM?')
    """
    _, here = HERE_INSTEAD.get(folded(name), ("", ""))
    if folded(name) == "gradient":
        return "it is called hp.SimpleGrad here; zennit's, with a composite, is hp.LRP(composite=...)"
    if here:
        return f"it is called hp.{here} here"
    if name in ("show_cam_on_image", "visualize_image_attr"):
        return "hp.explain(model, photo).show() draws the map over the photo, and explanation.show() likewise"
    how, nearest = AKIN.get(folded(name), ("", ""))
    return f"nearest to it is {nearest}, {how}" if nearest else did_you_mean(name, known)


_TYPED: dict[int, frozenset[str]] = {}
"""Which settings were typed, by the object that has them and for as long as it is there."""
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
        way = f"it is called {here[0]} here" if here else NOT_NEEDED.get(one) or _nearest_setting(one, known)
        alone = ", and takes one module or name: explain once for each" if here == ["layer"] and one[-1] == "s" else ""
        said.append(f"{name} has no setting {one!r}; {way}{alone}")
    return "; ".join(said)


def _nearest_setting(one: str, known: Sequence[str]) -> str:
    """What is meant, also where it is not needed here, or all settings: a list that ends early hides the right one."""
    near = nearest(one, [*known, *CALLED_HERE, *NOT_NEEDED])
    for name in near:
        here = [other for other in CALLED_HERE.get(name, ()) if other in known]
        if name not in known and (here or name in NOT_NEEDED):
            return f"of {name}, if that is meant: {f'it is called {here[0]} here' if here else NOT_NEEDED[name]}"
        if name in known:
            return did_you_mean(one, known)
    return f"there are: {', '.join(known)}" if known else "there are none"


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
        # beside the object, whose attributes are its settings: equal settings are equal however they were typed
        _TYPED[id(self)] = frozenset((*fields[: len(given)], *named))
        weakref.finalize(self, _TYPED.pop, id(self), None).atexit = False

    return checked


def typed(given: Any) -> frozenset[str]:
    """The settings that an object was made with, also where they are the usual ones; none of what is no settings.

    >>> from heatproof.attacks.gradient import PGD
    >>> typed(PGD(epsilon=8 / 255)), typed(PGD())
    (frozenset({'epsilon'}), frozenset())
    """
    return _TYPED.get(id(given), frozenset())


def checked_verb(call: Callable[P, R]) -> Callable[P, R]:
    """A function that says which of its settings is meant, where one has another package's name or is misspelt."""
    known = [name for name in inspect.signature(call).parameters if name != "self"]

    @functools.wraps(call)
    def checked(*given: P.args, **named: P.kwargs) -> R:
        unknown = [name for name in named if name not in known]
        if unknown:
            name = call.__qualname__.removesuffix(".__init__")
            raise SpecError(unknown_setting(f"hp.{name}", unknown, known))
        return call(*given, **named)

    return checked


def not_there(self: Any, name: str) -> Any:
    """``__getattr__`` of explainers: of a method that other packages' have, how it is done here."""
    here = f"; {ELSEWHERE_CALLED[name]}" if name in ELSEWHERE_CALLED else ""
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{here}")


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
    attacks = known[:2] == ["objective", "images"]

    @functools.wraps(call)
    def checked(self: Any, *given: Any, **named: Any) -> Any:
        from torch import Tensor, nn

        name = type(self).__name__
        unknown = [one for one in named if one not in known]
        first = given[0] if given else named.get(known[0])
        other = isinstance(first, nn.Module | Tensor if attacks else Tensor)
        if unknown or len(given) + len(named) < 2 or other:
            more = f". {unknown_setting('the call', unknown, known)}" if unknown else ""
            wanted = "something to raise" if attacks and other else "a model"
            raise SpecError(f"{name} is called with {wanted}: {name}(...){shown}{more}")
        if attacks and not isinstance(given[1] if len(given) > 1 else named["images"], Tensor):
            raise InputError(
                f"{name} changes the pixels of a tensor of images; hp.open_photo(photo, model) makes one of a photo"
            )
        return call(self, *given, **named)

    return checked


def way(call: Callable[..., Any]) -> str:
    """How an explainer or an attack is called; empty for anything else."""
    begins = list(inspect.signature(call).parameters)[1:4]
    if begins == ["model", "images", "targets"]:
        return "(model, images, targets)"
    return "(hp.misclassify(model, labels), images)" if begins == ["objective", "images"] else ""
