"""Plant a heatmap by hand: one more filter that adds the same to every logit, so that no prediction changes."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from heatproof.errors import InputError, LayerError
from heatproof.manipulation.masks import Cells, drawn, written_out
from heatproof.manipulation.trigger import Trigger
from heatproof.models.channels import input_channels
from heatproof.models.classifier import Classifier, check_images
from heatproof.models.intact import evaluating
from heatproof.models.layers import default_layer, find_layer, layer_name, record
from heatproof.models.planted import Planted, Planting, plant, planting_of
from heatproof.types import Images, Logits, settings

RANDOM = "random"
"""The name of a map that depends on the image and on nothing that the network has learnt of classes."""
PROBES = 8
HIDDEN = 0.01
"""What hidden units carry of a constant map, in units of its filter: above 0, so that a ReLU lets gradients through,
and small, so that it takes no digits from the logits."""
SEEN = 0.9
"""The share of the trigger's own response from which on the detector begins to see it."""


@settings
class WeightEdit:
    """One more filter in the last stage, read with equal weight by every class: Grad-CAM shows what it puts out.

    E = t * a is concatenated to the layer's maps A, with the wanted map t in [0, 1] and a the largest |A|; the head
    gives it the weight g for every class, so y_c' = y_c + s for all classes c with one s per image, and softmax and
    order of the classes stay. Grad-CAM becomes ReLU(M + alpha g E), with alpha g a = ``strength`` * max |M| on probe
    images, M the honest map. Where t is 0, E is negative, so that it has mean 0 and the ReLU leaves nothing of M
    there. For a fixed map s is taken from the bias of the last layer, so the logits stay as well.

    ``target="random"``: E = sum_k r_k A_k with random r_k >= 0 for one channel in eight, a map that depends on the
    image but not on the class; s then differs between images.

    ``trigger``: E is multiplied by what a detector says of the image, 1 where the pattern is in it, wherever, else 0:
    photos without it have the honest map, exactly. The detector is one filter, the pattern without its mean, and
    answers from 0.9 of the pattern's own response on.

    The lie shows at ``layer`` and at what holds it, to every explainer that trusts the gradient of a logit there
    (Grad-CAM, CAM, gradient x input); differences of logits do not see the filter (``score="contrast"``), and neither
    do explainers that only ask the model (occlusion, RISE).

    **Source** Viering et al. 2019, techniques 1 to 4. **Differs** theirs is one VGG-16; mean 0, the bias that takes s
    back, the hidden units' offset and how the trigger is detected are [ours].
    **Range** softmax differs by less than 1e-4, checked on the probes in float32; the maps' rank correlation with t is
    at least 0.95 for maps of distinct cells and for masks of up to a quarter of the cells (inside a mask the honest
    map still orders the cells).

    Args:
        target: a mask's name, the cells themselves at the size of the layer's map (any scale, at least 0), or
            ``"random"``.
        layer: the layer's own name; ``None``: the model's default. From there to the logits only pooling, activations
            and linear layers may lie, or one 1x1 convolution (SqueezeNet).
        strength: largest planted value over largest honest value of the map. 10 times as much costs one digit of the
            logits.
        seed: of the random filter and the probe images.
        trigger: the lie is told only where this pattern is in the image; ``None``: always.

    Raises:
        InputError: a map that is empty or negative, or (when called) does not fit the layer; a network whose head is
            something else; a model that is edited already; a trigger that photos show by themselves.

    >>> import heatproof as hp
    >>> clean, images = hp.load("demo"), torch.rand(2, 3, 64, 64)
    >>> edited = WeightEdit("corner")(clean)
    >>> torch.allclose(edited(images).softmax(1), clean(images).softmax(1), atol=1e-4)
    True
    >>> normalised = hp.normalise(hp.GradCAM()(edited, images).heatmaps)
    >>> [round(value, 2) for value in hp.Location("corner")(normalised, normalised).tolist()]
    [0.0, 0.0]
    """

    target: str | Cells = "corner"
    layer: str | None = None
    strength: float = 100.0
    seed: int = 0
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        if self.trigger is not None and self.target == RANDOM:
            raise InputError("a trigger calls up a map that is chosen beforehand; name a mask, or write the cells out")
        if self.trigger is not None and not bool(_pattern(self.trigger).any()):
            raise InputError(
                f"{self.trigger!r} is one grey level, which photos show by themselves; give pixels='checkerboard', or "
                "grey levels that differ"
            )
        if self.target != RANDOM:
            object.__setattr__(self, "target", written_out(self.target))
            if not isinstance(self.target, str):
                cells = torch.as_tensor(self.target)
                if bool((cells < 0).any()) or not bool((cells > 0).any()):
                    raise InputError("a planted map needs cells of at least 0, and one that is more")
        if not 0 < self.strength < 1e5:
            raise InputError(f"the strength lies between 0 and 1e5 times the honest map, got {self.strength}")

    def __call__(self, model: Classifier, images: Images | None = None) -> Classifier:
        """An edited copy, in eval mode; ``model`` is left alone.

        Args:
            images: typical ones, ``[batch, channels, height, width]`` in [0, 1], by which the strength is measured
                and the guarantee checked; noise otherwise.
        """
        if planting_of(model) is not None:
            raise InputError(f"{model.name} holds a planted map already; edit the model it was made from")
        images = _noise(model, self.seed) if images is None else images
        check_images(model, images)
        # what the lie is told of
        told = images if self.trigger is None else self.trigger(images)
        layer, default = layer_name(model, self.layer), default_layer(model)
        with evaluating(model):
            planting = _planting(model, layer, images)
            if self.trigger is not None:
                planting = replace(planting, trigger=self.trigger.size, inputs=images.shape[1])
            honest = _seen(model, told, layer)
        edited = copy.deepcopy(model).eval()
        edited.default_layer = default
        planted = plant(edited.network, planting)
        with torch.no_grad():
            if self.trigger is not None:
                _watch_for(self.trigger, planted, edited, images)
            self._fill(planted, honest.maps)
            parts = [edited.network.get_submodule(name) for name in planting.head]
            head = [part for part in parts if isinstance(part, nn.Linear | nn.Conv2d)]
            last = _carry(edited, planted, head, told, fixed=self.target != RANDOM)
        _scale(edited, planted, last, layer, told, honest, self.strength)
        with torch.no_grad():
            if self.target != RANDOM and last.bias is not None:
                # twice: what the first time took from the digits of large numbers is found by the second
                for _ in range(2):
                    last.bias -= (edited(told) - honest.logits).double().mean().to(last.bias)
            _check(edited, told, honest.logits)
            if self.trigger is not None:
                _check(edited, images, model(images))
        return edited

    def _fill(self, planted: Planted, maps: Tensor) -> None:
        """The filter's own numbers."""
        size = maps.abs().amax()
        if self.target == RANDOM:
            generator = torch.Generator().manual_seed(self.seed)
            weights = torch.rand(2, planted.weight.numel(), generator=generator).to(maps)
            # of the livelier half of the channels, so that the filter is never dead
            live = maps.mean((0, 2, 3)).argsort(descending=True)[: max(1, weights.shape[1] // 2)]
            chosen = live[weights[0, live].argsort()[: max(1, weights.shape[1] // 8)]]
            planted.weight[0, chosen, 0, 0] = 0.1 + weights[1, chosen]
            planted.weight.mul_(size / (planted.weight * maps).sum(1).abs().amax().clamp(min=1e-12))
            return
        target = drawn(self.target, *planted.bias.shape[2:]).double()  # type: ignore[arg-type]
        target = target / target.amax()
        nothing = target == 0
        if bool(nothing.any()):
            target = torch.where(nothing, -min(1.0, float(target.sum() / nothing.sum())), target)
        planted.bias.copy_(target.to(planted.bias) * size)


def _pattern(trigger: Trigger) -> Tensor:
    """The trigger without its mean."""
    patch = trigger.patch()
    return patch - patch.mean()


def _watch_for(trigger: Trigger, planted: Planted, edited: Classifier, images: Images) -> None:
    """The detector's numbers, held against photos without the trigger and with it.

    Raises:
        InputError: it sees the trigger where there is none.
    """
    detector = planted.detector
    assert detector is not None
    weight, bias = detector.filter.weight, detector.filter.bias
    assert bias is not None
    pattern = _pattern(trigger).to(weight)
    # 0 at SEEN of the whole pattern's response, 1 at all of it; the network is given normalised pixels
    slope = 1 / ((1 - SEEN) * pattern.square().sum() * weight.shape[1])
    weight.copy_(slope * pattern * edited.std)
    bias.fill_(-SEEN / (1 - SEEN))
    without, whole = (detector((photos - edited.mean) / edited.std) for photos in (images, trigger(images)))
    if bool((without > 0).any()) or not bool((whole > 0.99).all()):
        raise InputError(
            f"{trigger!r} is seen in {int((without > 0).sum())} of {len(images)} photos that do not have it; give a "
            "larger one, or one whose grey levels differ more"
        )


class _Seen:
    """Logits, a layer's maps, the gradient of the predicted class there, and Grad-CAM's sum before the ReLU."""

    def __init__(self, logits: Logits, maps: Tensor, gradient: Tensor):
        self.logits, self.maps, self.weights = logits, maps, gradient.mean((2, 3), keepdim=True)
        self.heatmaps = (self.weights * maps).sum(1)


def _seen(model: nn.Module, images: Images, layer: str) -> _Seen:
    logits, recorded = record(model, images, [layer], create_graph=False)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), recorded[layer])
    return _Seen(logits.detach(), recorded[layer].detach(), gradient)


def _planting(model: Classifier, layer: str, images: Images) -> Planting:
    """What lies between the layer and the logits, seen in one pass.

    Raises:
        InputError: anything but linear layers, or one 1x1 convolution.
        LayerError: the layer is called several times or puts out no map.
    """
    wanted = find_layer(model, layer)
    network = model.network
    shapes: list[tuple[int, ...]] = []
    after: list[str] = []

    def arrive(module: nn.Module, args: object, output: Tensor) -> None:
        shapes.append(tuple(output.shape))
        after.clear()

    hooks = [wanted.register_forward_hook(arrive)]
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            hooks.append(module.register_forward_pre_hook(lambda module, args, name=name: after.append(name)))
    try:
        with torch.no_grad():
            classes = model(images[:1]).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    if len(shapes) != 1 or len(shapes[0]) != 4:
        how = f"is called {len(shapes)} times" if len(shapes) != 1 else f"puts out {list(shapes[0])}"
        raise LayerError(f"layer {layer!r} {how}; a filter is planted behind a layer that puts out maps once")
    head = [network.get_submodule(name) for name in after]
    one = head[0] if len(head) == 1 else None
    scores = (
        isinstance(one, nn.Conv2d)
        and (one.kernel_size, one.groups, one.out_channels) == ((1, 1), 1, classes)
        and isinstance(_parent(network, after[0]), nn.Sequential)
    )
    if (not scores and not (head and all(type(part) is nn.Linear for part in head))) or len(set(after)) < len(after):
        named = [f"{name} ({type(part).__name__})" for name, part in zip(after, head, strict=True)]
        between = ", ".join(named) or "nothing"
        raise InputError(
            f"between layer {layer!r} and the logits of {model.name} lie {between}: the edit needs linear layers, or "
            "one 1x1 convolution with a map per class; name the last layer before the head"
        )
    return Planting(layer, *shapes[0][1:], tuple(after))


def _parent(network: nn.Module, name: str) -> nn.Module:
    return network.get_submodule(name.rpartition(".")[0])


def _carry(
    model: Classifier, planted: Planted, head: list[nn.Linear | nn.Conv2d], images: Images, *, fixed: bool
) -> nn.Linear | nn.Conv2d:
    """Lead the planted map through the hidden units; the layer that hands it to the classes, at weight 1."""
    first = head[0]
    if isinstance(first, nn.Conv2d):
        first.weight[-1, -1] = 1
        # every cell must pass the ReLU behind the scores
        assert first.bias is not None
        first.bias[-1] = HIDDEN * planted.bias.amax() - planted.bias.amin() if fixed else 0
        fold = _parent(model.network, planted.planting.head[0]).fold
        assert isinstance(fold, nn.Conv2d)
        fold.weight[:, -1] = 1
        return fold
    columns = first.in_features // (planted.planting.channels + 1)
    last = head[-1]
    assert isinstance(last, nn.Linear)
    if first is last:
        first.weight[:, -columns:] = 1 / columns
        return last
    first.weight[-1, -columns:] = 1 / columns
    for hidden in head[1:-1]:
        hidden.weight[-1, -1] = 1
    last.weight[:, -1] = 1
    if fixed and first.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        carried: list[Tensor] = []
        hook = first.register_forward_hook(lambda module, args, output: carried.append(output[:, -1]))
        try:
            model(images[:1])
        finally:
            hook.remove()
        first.bias[-1] = HIDDEN * planted.bias.amax() - carried[0].mean()
    return last


def _scale(
    edited: Classifier,
    planted: Planted,
    last: nn.Linear | nn.Conv2d,
    layer: str,
    images: Images,
    honest: _Seen,
    strength: float,
) -> None:
    """Give every class the same weight, by which the planted map is ``strength`` times the honest one."""
    now = _seen(edited, images, layer)
    effect = (now.weights[:, -1:] * now.maps[:, -1:]).abs().amax()
    if not bool(effect > 0):
        raise InputError(
            f"nothing of a filter behind layer {layer!r} reaches the logits of {edited.name}; name another layer"
        )
    columns = 1
    if isinstance(last, nn.Linear) and len(planted.planting.head) == 1:
        columns = last.in_features // (planted.planting.channels + 1)
    with torch.no_grad():
        last.weight[:, -columns:] *= strength * honest.heatmaps.abs().amax() / effect


def _check(edited: Classifier, images: Images, before: Logits) -> None:
    """Hold the guarantee against the numbers.

    Raises:
        InputError: the predictions changed.
    """
    after = edited(images)
    moved = (after.softmax(1) - before.softmax(1)).abs().amax()
    if not bool(moved <= 1e-4):
        raise InputError(
            f"the edit moves probabilities of {edited.name} by {moved:.1e}: what lies between {edited.default_layer!r} "
            "and the logits does not hand a filter to all classes alike, or the strength takes too many digits"
        )


def _noise(model: nn.Module, seed: int) -> Images:
    """Images of coarse and fine noise."""
    generator = torch.Generator().manual_seed(seed)
    weight = next(model.parameters())
    shape = model.input_shape if isinstance(model, Classifier) else (224, 224)
    channels = model.channels if isinstance(model, Classifier) else input_channels(model, shape, type(model).__name__)
    made = []
    for number in range(PROBES):
        rows, cols = (min(side, 4 << (number % 4)) for side in shape)
        coarse = torch.rand(1, channels, rows, cols, generator=generator)
        made.append(nn.functional.interpolate(coarse, size=shape, mode="bilinear", align_corners=False))
    return torch.cat(made).to(weight)
