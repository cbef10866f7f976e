"""The classifier: a network with its normalisation, its class names and its layers' names."""

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from heatproof.errors import InputError, ModelError, did_you_mean
from heatproof.tensor_files import why_not_plain
from heatproof.types import Images, Logits, Targets

# room for the rounding of an attack's projection or of a resize, far below one grey level of 1/255
PIXEL_TOLERANCE = 1e-4


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile wrappers.

    Raises:
        ModelError: for a scripted or traced (TorchScript) model, whose layers cannot be read from Python.
    """
    while True:
        if isinstance(network, torch.jit.ScriptModule):
            raise ModelError(
                "a scripted or traced (TorchScript) model hides its layers; "
                "give the nn.Module it was made from, with its state_dict"
            )
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module  # type: ignore[assignment]
        elif hasattr(network, "_orig_mod"):
            network = network._orig_mod  # type: ignore[assignment]
        else:
            return network


class Classifier(nn.Module):
    """A network that takes images in [0, 1] and gives logits; normalisation is inside.

    Layer names are the network's own (``layer4``, ``features.29``).

    Args:
        network: takes normalised ``[batch, channels, height, width]``, returns ``[batch, classes]``; wrappers of
            DataParallel, DDP and torch.compile are taken off.
        mean, std: of [0, 1] pixels, per channel; the defaults change nothing.
        classes: a name per class; without them classes are called by their number.
        input_size: height and width that the network was trained on, in pixels.
        default_layer: explained where no layer is named; found by a probe when first needed
            (:func:`heatproof.models.layers.default_layer`).
        name: what runs and tables call the model.

    Raises:
        ModelError: for a scripted model, or a standard deviation that is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        classes: Sequence[str] | None = None,
        input_size: int = 224,
        default_layer: str | None = None,
        name: str | None = None,
    ):
        super().__init__()
        if isinstance(network, Classifier):
            raise ModelError("this is a Classifier already; give the network inside it: model.network")
        if not all(0 < s < math.inf for s in std) or not all(math.isfinite(m) for m in mean):
            raise ModelError(
                f"mean must be finite and std positive in every channel, got {tuple(mean)} and {tuple(std)}"
            )
        self.network = unwrap(network)
        # not persistent: the state_dict is the network's own
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.classes = list(classes) if classes is not None else None
        self.input_size = int(input_size)
        self.default_layer = default_layer
        self.name = name or type(self.network).__name__
        self.training = self.network.training

    def forward(self, images: Images) -> Logits:
        output = self.network((images - self.mean) / self.std)
        # Inception and GoogLeNet in training mode add their auxiliary heads' logits
        logits = output[0] if isinstance(output, tuple) else output
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            what = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise ModelError(
                f"a classifier returns logits [batch, classes], here [{len(images)}, classes]; "
                f"{self.name} returned {what}"
            )
        return logits

    def class_name(self, index: int) -> str:
        """The name of class ``index``, or ``class 7`` where the model has no names."""
        return self.classes[index] if self.classes and index < len(self.classes) else f"class {index}"

    def class_index(self, wanted: str | int) -> int:
        """The class meant by a number or a name; names are compared without case, and a part is enough if unique.

        Raises:
            InputError: for a class that does not exist, naming the nearest.
        """
        text = str(wanted).strip()
        if text.lstrip("-").isdigit():
            index = int(text)
            if index < 0 or (self.classes and index >= len(self.classes)):
                count = len(self.classes) if self.classes else "unknown"
                raise InputError(f"there is no class {index}: {self.name} has {count} classes, counted from 0")
            return index
        if not self.classes:
            raise InputError(f"{self.name} has no class names; give the class as a number instead of {text!r}")
        folded = [name.casefold() for name in self.classes]
        if text.casefold() in folded:
            return folded.index(text.casefold())
        parts = [index for index, name in enumerate(folded) if text.casefold() in name]
        if len(parts) == 1:
            return parts[0]
        if parts:
            shown = ", ".join(f"{self.classes[i]} ({i})" for i in parts[:6])
            raise InputError(f"{text!r} fits several classes of {self.name}: {shown}; give one in full or by number")
        raise InputError(f"{self.name} has no class {text!r}; {did_you_mean(text, self.classes)}")


def check_images(model: nn.Module, images: Tensor) -> None:
    """Stop images that are no batch of pixels in [0, 1]; a bare network's own input range is not known.

    Raises:
        InputError: says what was expected, what came, and the way out.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            "images must be a floating-point batch [batch, channels, height, width], "
            f"got {list(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
        )
    if len(images) == 0:
        raise InputError("there is no image in this batch")
    if isinstance(model, Classifier):
        low, high = images.detach().aminmax()
        if not (low >= -PIXEL_TOLERANCE and high <= 1 + PIXEL_TOLERANCE):
            raise InputError(
                f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]; normalisation belongs to the model"
            )


def resolve_targets(logits: Logits, targets: Targets | Int[Tensor, ""] | int | None) -> Targets:
    """The classes to explain: as given, one per image or one for all, or the predicted ones.

    Raises:
        InputError: for targets that are no class of the model, or of the wrong number.
    """
    if targets is None:
        return logits.detach().argmax(1)
    targets = torch.as_tensor(targets, device=logits.device).long()
    if targets.is_inference():
        targets = targets.clone()
    if targets.ndim == 0:
        targets = targets.expand(len(logits))
    if targets.shape != logits.shape[:1]:
        raise InputError(f"one target per image: expected [{len(logits)}], got {list(targets.shape)}")
    if len(targets) and (targets.min() < 0 or targets.max() >= logits.shape[1]):
        raise InputError(
            f"targets must lie in 0..{logits.shape[1] - 1}, got {int(targets.min())}..{int(targets.max())}"
        )
    return targets


def fingerprint(model: nn.Module) -> str:
    """sha256 over the names, shapes, types and bytes of the state_dict, in the order of the names.

    **Range** 64 hexadecimal digits; equal weights give equal digits, whatever file they came from.

    Raises:
        ModelError: a tensor is complex, sparse, quantised or on the meta device.
    """
    digest = hashlib.sha256()
    network = model.network if isinstance(model, Classifier) else unwrap(model)
    for name, value in sorted(network.state_dict().items()):
        if reason := why_not_plain(value):
            raise ModelError(f"the tensor {name} {reason}; heatmaps need dense floating-point numbers")
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
