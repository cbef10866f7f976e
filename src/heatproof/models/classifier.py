"""The classifier: a network with its normalisation, its class names and its layers' names."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.errors import InputError, ModelError, NoSuchClass, Remark, callers_level
from heatproof.habits import checked_verb
from heatproof.models.class_names import find_class, no_class, read_as
from heatproof.models.odd_images import (
    check_channels,
    check_first_convolution,
    check_shape,
    no_tensor,
    not_numbers,
    outside,
    remark_on_pixels,
)
from heatproof.models.outputs import read_logits, told_as_own
from heatproof.models.smooth import softened
from heatproof.models.stated import Values, channel_values, class_names, stated_channels
from heatproof.preprocessing import Fit, Interpolation, Preprocessing, Size
from heatproof.tensor_files import why_not_plain
from heatproof.types import Classes, Images, Logits, Targets

Reading = Callable[[Any], Logits]
"""From what a network returns to ``[batch, classes]``; a pure function of it, and differentiable."""

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
        network: takes normalised ``[batch, channels, height, width]``, returns ``[batch, classes]``, or ``[batch, 1]``
            or ``[batch]``: one logit z is read as the pair (0, z) of two classes. Wrappers of DataParallel, DDP and
            torch.compile are taken off.
        mean, std: of [0, 1] pixels: a number for all channels alike, or one for each; the defaults change nothing.
            ``(0.4,)`` is for all channels too, and of one channel where the network does not say how many it takes.
        classes: a name per class, in the order of the logits; without them classes are called by their number.
        input_size: rows and columns that the network was trained on, in pixels: one number, or (rows, cols). To set it
            later forgets ``resize``, which belongs to a size.
        default_layer: explained where no layer is named; found by a probe when first needed
            (:func:`heatproof.models.layers.default_layer`).
        name: what runs and tables call the model.
        channels: that the network takes; asked of its first convolution when first needed. ``channels=4`` given here
            reads RGB with its transparency.
        resize, fit, interpolation, antialias, range: how a photo comes to the network, see
            :class:`~heatproof.preprocessing.Preprocessing`. Like ``input_size`` and ``channels`` they may be set later.
        logits_key: the key, attribute or index of the logits in what the network returns; without it tensors, objects
            with ``.logits``, dicts with ``logits`` or ``out``, and Inception's tuple are read.
        probabilities: the network ends in softmax or sigmoid; log-probabilities or log-odds are its logits then.
            ``None``: either is noticed, and asked for; ``False``: what looks like one is taken for logits.
        reading: makes logits of maps or detections: :class:`~heatproof.models.readings.OverMask`,
            :class:`~heatproof.models.readings.Detection`, or a function of yours from what the network returns to
            ``[batch, classes]``.
        softplus: beta of the softplus that takes the place of every ReLU, as the weights were trained with
            (:mod:`heatproof.models.altered`); ``None``: ReLU stays ReLU.

    Raises:
        ModelError: for a scripted model, or a standard deviation or a beta that is not positive.
        InputError: for a preprocessing that is none.

    >>> Classifier(nn.Conv2d(1, 2, 3), input_size=(96, 320), fit="squash").preprocessing
    Preprocessing(size=(96, 320), fit='squash', channels=1)
    """

    mean: Tensor
    std: Tensor

    @checked_verb
    def __init__(
        self,
        network: nn.Module,
        mean: Values = (0.0,),
        std: Values = (1.0,),
        classes: Sequence[str] | Mapping[int, str] | None = None,
        input_size: Size = 224,
        default_layer: str | None = None,
        name: str | None = None,
        *,
        channels: int | None = None,
        resize: Size | None = None,
        fit: Fit = "crop",
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
        range: tuple[float, float] | None = None,
        logits_key: str | int | None = None,
        probabilities: bool | None = None,
        reading: Reading | None = None,
        softplus: float | None = None,
    ):
        super().__init__()
        if isinstance(network, Classifier):
            raise ModelError("this is a Classifier already; give the network inside it: model.network")
        if not isinstance(network, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ModelError(
                f"a Classifier wraps a network, a torch.nn.Module, got {network!r}; hp.load(NAME) makes one"
            )
        centre, spread = channel_values(mean, "mean"), channel_values(std, "std")
        if not (spread > 0).all() or not spread.isfinite().all() or not centre.isfinite().all():
            given = f"{_rounded(centre)} and {_rounded(spread)}"
            raise ModelError(f"mean must be finite and std positive in every channel, got {given}")
        self.network = unwrap(network)
        # not persistent: the state_dict is the network's own
        self.register_buffer("mean", centre, persistent=False)
        self.register_buffer("std", spread, persistent=False)
        self.stated_channels = stated_channels(mean, std)
        self.classes = class_names(classes)
        self.input_size = input_size
        self.resize, self.antialias = resize, antialias
        self.fit: Fit = fit
        self.interpolation: Interpolation = interpolation
        self.range = None if range is None else (float(range[0]), float(range[1]))
        self._channels, self._found_channels = channels, None
        _ = self._sized(channels or 3)  # stops what makes no sense here, not at the first photo
        self.default_layer = default_layer
        self.name = name or type(self.network).__name__
        self.logits_key, self.probabilities, self.reading = logits_key, probabilities, reading
        if softplus is not None and not 0 < softplus < math.inf:
            raise ModelError(f"beta of softplus must be positive and finite, got {softplus}")
        self.softplus = softplus
        self.ending_checked = False
        """Whether it is known that logits come out (:func:`heatproof.models.layers.check_ending`)."""
        self.training = self.network.training

    @property
    def input_size(self) -> Size:
        """A number where rows and columns are as many, else (rows, cols)."""
        rows, cols = self._input_shape
        return rows if rows == cols else (rows, cols)

    @input_size.setter
    def input_size(self, size: Size) -> None:
        self._input_shape = Preprocessing(size).shape
        self.resize = None

    @property
    def input_shape(self) -> tuple[int, int]:
        """(rows, cols) of the images."""
        return self._input_shape

    @property
    def channels(self) -> int:
        """That the network takes, as given or as its first convolution says.

        Raises:
            ModelError: it does not say; give it.
        """
        if self._channels is not None:
            return self._channels
        if self._found_channels is None:
            # which runs the network, and so knows this class
            from heatproof.models.channels import input_channels

            self._found_channels = input_channels(self.network, self.input_shape, self.name, self.stated_channels)
        return self._found_channels

    @channels.setter
    def channels(self, channels: int | None) -> None:
        self._channels = channels

    @property
    def preprocessing(self) -> Preprocessing:
        """How a photo comes to this network, as the attributes say now.

        Raises:
            ModelError: mean and std are of another number of channels.
        """
        self._check_stated(self.channels)
        return self._sized(self.channels)

    @preprocessing.setter
    def preprocessing(self, wanted: Preprocessing) -> None:
        self.input_size = wanted.shape
        self.resize, self.fit, self.interpolation = wanted.resize, wanted.fit, wanted.interpolation
        self.antialias, self.range = wanted.antialias, wanted.range
        self.channels = wanted.channels if wanted.alpha else None

    def _check_stated(self, channels: int) -> None:
        # a single value is for all channels of a network that takes several, as in torchvision's Normalize
        if self.stated_channels not in (None, 1, channels):
            raise ModelError(
                f"{self.name} takes {channels} channels, and its mean and std are of {self.stated_channels}; give one "
                f"number for all alike (mean=0.5, without brackets), or one for each channel"
            )

    def _sized(self, channels: int) -> Preprocessing:
        return Preprocessing(
            self.input_shape,
            self.resize,
            self.fit,
            self.interpolation,
            self.antialias,
            channels,
            alpha=self._channels == 4,
            range=self.range,
        )

    def normalised(self, images: Images) -> Images:
        """What the network itself is given: in its own precision, for photos are read in single.

        Raises:
            InputError: mean and std of three channels would make three of one, in silence.
        """
        if images.ndim == 4 and self.stated_channels not in (None, images.shape[1]):
            check_channels(
                self.name, images.shape[1], self.channels if self.stated_channels == 1 else self.stated_channels
            )
        normal = (images - self.mean) / self.std
        weight = next((value for value in self.network.parameters() if value.is_floating_point()), normal)
        return normal.to(weight.dtype)

    def activation(self) -> AbstractContextManager[None]:
        """Inside, what is called of the network has this classifier's activation: softplus for ReLU, or ReLU."""
        return nullcontext() if self.softplus is None else softened(self.softplus, own=True)

    def forward(self, images: Images) -> Logits:
        if not hasattr(images, "requires_grad"):  # a photo or an array; a tracer's stand-in for a tensor has it
            raise InputError(no_tensor(images))
        normalised = self.normalised(images)
        with told_as_own(self.name, normalised), self.activation():
            output = self.network(normalised)
        logits = read_logits(output, len(images), self.name, self.logits_key, bool(self.probabilities), self.reading)
        if self.classes is not None and len(self.classes) != logits.shape[1]:
            names = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
            raise ModelError(
                f"{self.name} has names for {names} and returned {logits.shape[1]} logits; give as "
                "many names as it has logits, or none (classes=None)"
            )
        # in half precision a softmax of confident logits, and all that is counted from it, is 0 and 1
        return (
            logits.float() if logits.dtype in (torch.float16, torch.bfloat16) and not _autocasting(logits) else logits
        )

    def __repr__(self) -> str:
        """The network's kind and size, its classes, its input, its layer; ``print(model.network)`` shows all of it."""
        millions = sum(parameter.numel() for parameter in self.network.parameters()) / 1e6
        some = ", ".join(self.classes[:3]) + (", ..." if len(self.classes) > 3 else "") if self.classes else ""
        return "\n".join(
            [
                f"Classifier {self.name}: {type(self.network).__name__}, {millions:.3g} million weights",
                f"  classes  {f'{len(self.classes)} ({some})' if self.classes else 'without names'}",
                f"  images   {self.input_shape[0]} x {self.input_shape[1]} pixels in [0, 1]",
                f"  minus    {_rounded(self.mean)}, over {_rounded(self.std)}",
                f"  layer    {self.default_layer or 'the last feature map before pooling'}",
                *([] if self.reading is None else [f"  reading  {self.reading!r}"]),
                *([] if self.softplus is None else [f"  softplus of beta {self.softplus:g} in the place of ReLU"]),
            ]
        )

    def class_name(self, index: int) -> str:
        """The name of class ``index``, or ``class 7`` where the model has no names."""
        return self.classes[index] if self.classes and index < len(self.classes) else f"class {index}"

    def class_index(self, wanted: str | int) -> int:
        """The class meant by a number or a name; names are compared without case, and a part is enough if unique.

        Raises:
            NoSuchClass: for a class that does not exist, naming the nearest.
        """
        text = str(wanted).strip()
        if text.lstrip("-").isdigit():
            index = int(text)
            if index < 0 or (self.classes and index >= len(self.classes)):
                count = len(self.classes) if self.classes else "unknown"
                raise NoSuchClass(f"there is no class {index}: {self.name} has {count} classes, counted from 0")
            return index
        if not self.classes:
            raise NoSuchClass(f"{self.name} has no class names; give the class as a number instead of {text!r}")
        return find_class(text, self.classes, self.name)


def _autocasting(logits: Tensor) -> bool:
    """Whether the precision was chosen outside (``--precision``), where the code that chose it knows of it."""
    return torch.is_autocast_enabled(logits.device.type)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.flatten().tolist())


def check_images(model: nn.Module, images: Tensor) -> None:
    """Stop images that are no batch of pixels in [0, 1]; a bare network's own input range is not known.

    Raises:
        InputError: says what was expected, what came, and the way out.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"a model is a network, a torch.nn.Module or a hp.Classifier, got {model!r}; hp.load(NAME) makes one"[:300]
        )
    if not isinstance(images, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(no_tensor(images))
    check_shape(images)
    if not isinstance(model, Classifier):
        check_first_convolution(model, images)
        remark_on_pixels(model, images)
        return
    if model.stated_channels is not None and model.stated_channels > 1:
        check_channels(model.name, images.shape[1], model.stated_channels)
    elif images.shape[1] != 3:
        # what the network does not say is left to its own pass
        with suppress(ModelError):
            check_channels(model.name, images.shape[1], model.channels)
    low, high = images.detach().aminmax()
    if low != low:
        raise InputError(f"images must lie in [0, 1], and {not_numbers(images)}")
    if not (low >= -PIXEL_TOLERANCE and high <= 1 + PIXEL_TOLERANCE):
        way = "; images / 255" if low >= 0 else ": give the pixels as they were before"
        raise InputError(
            f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]; normalisation belongs to the model{way}"
        )


def resolve_targets(logits: Logits, targets: Classes | None, model: nn.Module | None = None) -> Targets:
    """The classes to explain: as given, one per image or one for all, or the predicted ones.

    Args:
        model: whose class names are meant, where names are given.

    Raises:
        InputError: for targets that are no class of the model, or of the wrong number.
    """
    if targets is None:
        return logits.detach().argmax(1)
    targets = class_numbers(model, targets).to(logits.device).long()
    if targets.is_inference():
        targets = targets.clone()
    if targets.ndim == 0:
        targets = targets.expand(len(logits))
    if targets.shape != logits.shape[:1]:
        way = "; of one photo a list of several classes gets a map for each" if len(logits) == 1 else ""
        raise InputError(f"one target per image: expected [{len(logits)}], got {list(targets.shape)}{way}")
    if len(targets) and (targets.min() < 0 or targets.max() >= logits.shape[1]):
        raise InputError(outside(targets, logits.shape[1]))
    return targets


def class_numbers(model: nn.Module | None, given: Any) -> Tensor:
    """One class or several, by number or name, as a tensor of numbers.

    Raises:
        InputError: what is no class.
    """
    if isinstance(given, Tensor) and (given.dtype == torch.bool or given.is_floating_point()):
        raise no_class(f"a tensor of {str(given.dtype).removeprefix('torch.')}")
    if isinstance(given, Tensor):
        return given
    several = isinstance(given, Iterable) and not isinstance(given, str)
    return torch.tensor([class_number(model, one) for one in given] if several else class_number(model, given))


def class_number(model: nn.Module | None, name: Any) -> int:
    """The class that is meant by a name, or by any whole number."""
    if not isinstance(name, str):
        if isinstance(name, bool):  # to Python a whole number
            raise no_class("bool")
        try:
            return index(name)
        except TypeError:
            raise no_class(type(name).__name__) from None
    if isinstance(model, Classifier):
        number = model.class_index(name)
        if said := read_as(name, model.class_name(number), number):
            warnings.warn(Remark(f"the class is read as {said}"), stacklevel=callers_level())
        return number
    raise InputError(
        f"a class by name needs a model with class names, hp.Classifier(network, ..., classes=[...]); give {name!r} "
        "as a number"
    )


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
