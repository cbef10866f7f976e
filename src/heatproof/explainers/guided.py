"""Guided backpropagation: gradients that pass a ReLU only where they are positive."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from heatproof import heatmaps as algebra
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.scores import Score
from heatproof.explainers.together import gradient_at
from heatproof.models.classifier import check_images
from heatproof.models.layers import PIXELS
from heatproof.models.smooth import rounded_off
from heatproof.types import Attribution, Classes, Explanation, Heatmaps, Images, Layered, settings


class _GuidedReLU(Function):
    """min(max(x, 0), top), whose backward pass also drops negative gradients while it is being guided.

    Only the pass that makes the heatmap is guided. A later one, which differentiates the heatmap or the logits, needs
    the ReLU's own derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float, inplace: bool, guided: "_Guided") -> Tensor:
        # in place where the network asks for it: it may go on with x and not look at what is returned
        if inplace:
            ctx.mark_dirty(x)
            output = x.clamp_(0, top)
        else:
            output = x.clamp(0, top)
        ctx.top, ctx.guided = top, guided
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (output,) = ctx.saved_tensors
        gradient = gradients[0].clamp(min=0) if ctx.guided.active else gradients[0]
        return gradient * ((output > 0) & (output < ctx.top)), None, None, None


class _GuidedOnly(Function):
    """The identity, whose backward pass drops negative gradients while it is being guided: behind a softened ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: "_Guided") -> Tensor:
        ctx.guided = guided
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return (gradients[0].clamp(min=0) if ctx.guided.active else gradients[0]), None


# every way in which a network says ReLU in eager mode; nn.ReLU goes through the functional form
_RELU = {F.relu, torch.relu, Tensor.relu}
_RELU_IN_PLACE = {torch.relu_, Tensor.relu_, F.relu_}


class _Guided(TorchFunctionMode):
    """Inside, ReLUs are guided ones."""

    active = False

    def __enter__(self) -> "_Guided":
        self.active = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.active = False
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        inplace = bool(kwargs.get("inplace", args[1] if len(args) > 1 and isinstance(args[1], bool) else False))
        if func in _RELU:
            return _GuidedReLU.apply(x, torch.inf, inplace, self)
        if func in _RELU_IN_PLACE:
            return _GuidedReLU.apply(x, torch.inf, True, self)
        if func is F.relu6:
            return _GuidedReLU.apply(x, 6.0, inplace, self)
        # the module nn.ReLU6 is a hardtanh from 0 to 6
        if func is F.hardtanh and kwargs.get("min_val") == 0:
            return _GuidedReLU.apply(x, kwargs["max_val"], inplace, self)
        if func is rounded_off:
            return _GuidedOnly.apply(x, self)
        return func(*args, **kwargs)


@settings
class GuidedBackprop:
    """SimpleGrad, signed, through ReLUs that pass only positive gradients.

    heatmap = sum over channels of dy_c/dx, where every ReLU (and ReLU6) multiplies the gradient by (x > 0)(gradient
    > 0); modules, functions, in place or reused alike. Other activations keep their gradient, but for the softplus that
    stands for a ReLU in a softened copy (:func:`~heatproof.models.smooth.smooth`).

    **Source** Springenberg et al. 2015. **Range** signed. It hardly depends on the weights of the upper layers
    (Adebayo et al. 2018): a picture of edges more than an explanation.
    """

    score: Score = "logit"
    signed = True

    def attribute(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Attribution:
        """The guided dy_c/dx."""
        check_images(model, images)
        with _Guided():
            found = gradient_at(model, images, targets, PIXELS, self.score, create_graph=create_graph)
        return Attribution(found.gradient, found.logits, found.targets)

    def summed(self, values: Images) -> Heatmaps:
        return values.sum(1)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        values, logits, targets = self.attribute(model, images, targets, create_graph=create_graph)
        return Explanation(self.summed(values), logits, targets)


@settings
class GuidedGradCAM:
    """Guided backprop where Grad-CAM looks: bilinear upsampling of ReLU(M) times guided backprop, element-wise.

    **Source** Selvaraju et al. 2017, section 3.2. **Range** signed, at the resolution of the pixels.
    """

    layer: Layered = None
    score: Score = "logit"
    signed = True

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        where = GradCAM(self.layer, score=self.score)(model, images, targets, create_graph=create_graph)
        fine = GuidedBackprop(self.score)(model, images, where.targets, create_graph=create_graph)
        size = (images.shape[2], images.shape[3])
        return Explanation(algebra.resize(where.heatmaps, size) * fine.heatmaps, where.logits, where.targets)
