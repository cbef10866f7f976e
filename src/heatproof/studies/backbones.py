"""From a published backbone to a classifier of one's own classes: a new head, then training that can be resumed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from heatproof.data.batches import Augment, Batch, batches, training_batches
from heatproof.data.listing import UNLABELLED
from heatproof.data.sources import Source
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.preprocessing import Preprocessing
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.training.plain import train as train_plainly
from heatproof.types import settings


@settings
class Training:
    """How a backbone is trained: AdamW with a cosine schedule, on photos of which half are mirrored.

    Args:
        epochs: passes over the training photos.
        lr: the highest; it falls to zero.
        batch_size: photos in a step.
        frozen_norm: batch norm keeps the statistics it came with, as few photos call for when fine-tuning; networks
            whose batch norm was folded into the convolutions cannot do otherwise.
        warmup: share of the steps in which the rate climbs to ``lr``, as weights drawn at random call for (a
            one-cycle schedule); 0 begins with it.
        augment: what changes the photos, see :func:`~heatproof.data.batches.training_batches`.
        save_every: passes between two checkpoints.
        fused: AdamW in one pass over the weights: a tenth of its time where linear layers are large (VGG's), and other
            last digits.
        seed: of the head, the order and the changes of the photos, and dropout.
    """

    epochs: float = 10
    lr: float = 3e-4
    batch_size: int = 32
    frozen_norm: bool = False
    warmup: float = 0.0
    augment: Augment = "flip"
    save_every: float = 1
    fused: bool = False
    seed: int = 0

    def steps(self, photos: int) -> int:
        """How many steps that makes."""
        return max(1, round(self.epochs * photos / self.batch_size))

    def schedule(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The rate of each step."""
        if self.warmup:
            return OneCycleLR(optimizer, self.lr, total_steps=steps, pct_start=self.warmup, cycle_momentum=False)
        return CosineAnnealingLR(optimizer, steps)


def split(source: Source, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> tuple[Source, Source, Source]:
    """The photos for training, for validation and for the test, each class by itself, shuffled by the seed.

    Raises:
        InputError: a class with fewer than three photos, photos without a class, or shares that do not make 1.
    """
    labels = np.asarray(source.labels)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"the shares of training, validation and test are positive and make 1, got {tuple(shares)}")
    parts: list[list[int]] = [[], [], []]
    for label in sorted(set(labels.tolist())):
        own = np.flatnonzero(labels == label)
        if label < 0:
            raise InputError(f"{len(own)} photos of {source.name} have no class; expected a folder per class")
        if len(own) < 3:
            name = source.classes[label] if source.classes else label
            raise InputError(f"class {name} of {source.name} has {len(own)} photos, expected at least 3 for a split")
        order = np.random.default_rng([seed, label]).permutation(own)
        held = [max(1, round(share * len(own))) for share in shares[1:]]
        ends = np.cumsum([len(own) - sum(held), *held])
        for part, chosen in zip(parts, np.split(order, ends[:-1]), strict=True):
            part += chosen.tolist()
    first, second, third = (
        replace(source, positions=[source.positions[place] for place in sorted(part)]) for part in parts
    )
    return first, second, third


def new_head(model: Classifier, classes: Sequence[str], seed: int = 0) -> None:
    """Put a fresh last layer in place: as many outputs as there are classes, the same inputs.

    The last linear layer, or 1x1 convolution (SqueezeNet), whose outputs are the model's classes; Inception's and
    GoogLeNet's auxiliary heads are taken off.

    Raises:
        ModelError: a network that ends in anything else.
    """
    network = model.network
    for name in ("AuxLogits", "aux1", "aux2"):
        if getattr(network, name, None) is not None:
            setattr(network, name, None)
    if hasattr(network, "aux_logits"):
        setattr(network, "aux_logits", False)  # noqa: B010 (torch types every attribute of a module as a tensor)
    name, old = _head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(old, nn.Linear):
            biased = old.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
            made: nn.Module = nn.Linear(old.in_features, len(classes), bias=biased)
        else:
            made = nn.Conv2d(old.in_channels, len(classes), old.kernel_size, bias=old.bias is not None)  # type: ignore[arg-type]
    _put(network, name, made)
    for attribute in ("num_classes", "fc_classes"):
        if hasattr(network, attribute):
            setattr(network, attribute, len(classes))
    model.classes = None  # until it is known that the layer is the head
    with torch.no_grad(), evaluating(model):
        found = model(torch.zeros(1, 3, *model.input_shape)).shape[1]
    if found != len(classes):
        raise ModelError(
            f"the last layer of {model.name} in the order of its modules, {name!r}, is not its head: {found} outputs "
            f"instead of {len(classes)}; give a factory FILE.py:NAME that builds it with {len(classes)} classes"
        )
    model.classes = list(classes)


def headless(model: Classifier) -> None:
    """Take the last linear layer off: what went into it, an embedding, is the network's output now.

    Raises:
        ModelError: a network that does not end in one (SqueezeNet).
    """
    name, old = _head(model)
    if not isinstance(old, nn.Linear):
        raise ModelError(
            f"{model.name} ends in {type(old).__name__} {name!r}; an embedding is what a linear layer takes"
        )
    _put(model.network, name, nn.Identity())
    model.classes, model.default_layer = None, None


def _head(model: Classifier) -> tuple[str, nn.Linear | nn.Conv2d]:
    heads = [(n, m) for n, m in model.network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not heads:
        raise ModelError(f"{model.name} has no linear layer or convolution that could be its head")
    return heads[-1]


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, place = name.rpartition(".")
    setattr(network.get_submodule(parent), place, module)


def of_classes(source: Source, chosen: Sequence[int]) -> Source:
    """The photos of these classes, numbered anew in this order."""
    classes = source.classes or []
    numbers = {label: number for number, label in enumerate(chosen)}
    places = [place for place, label in zip(source.positions, source.labels, strict=True) if label in numbers]
    labels = [numbers.get(label, UNLABELLED) for label in source.listing.labels]
    names = [classes[label] for label in chosen]
    return replace(source, positions=places, listing=replace(source.listing, labels=labels, classes=names))


def train(
    model: Classifier,
    source: Source,
    asked: Training,
    run: Run,
    name: str,
    *,
    hardware: Hardware = Hardware(),
    say: Callable[[str], None] = print,
) -> None:
    """Train ``model`` in place; ``models/<name>.safetensors`` in the run folder when it is done, and read if it is.

    A checkpoint is written every ``asked.save_every`` epochs; a run that was killed goes on from it and, on a CPU, ends
    with the same weights. The model is in eval mode afterwards.
    """
    weights, partial = run.path(f"models/{name}.safetensors"), run.path(f"models/{name}.partial.pt")
    hardware.host(model)
    if weights.exists():
        model.network.load_state_dict(load(weights.read_bytes()))
        model.eval()
        return
    steps, epoch = asked.steps(len(source)), max(1, len(source) // asked.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.lr, weight_decay=1e-2, fused=asked.fused)
    losses: list[float] = []

    def loss(batch: Batch, step: int) -> Tensor:
        # dropout's numbers belong to the step, so that a resumed run draws the same
        with torch.random.fork_rng(devices=[hardware.place] if hardware.place.type == "cuda" else []):
            torch.manual_seed(asked.seed * 1_000_003 + step)
            with hardware.autocast():
                logits = model(hardware.bring(batch.images))
            return F.cross_entropy(logits.float(), batch.labels.to(hardware.place))

    def advance(done: int, loss: float) -> None:
        losses.append(loss)
        if not np.isfinite(loss):
            raise ModelError(f"{name}: the training loss is {loss} at step {done - 1}; give a smaller lr")
        if done % epoch == 0 or done == steps:
            say(f"{name}: step {done} of {steps}, training loss {np.mean(losses):.3f}")
            losses.clear()

    train_plainly(
        _in_training(model, asked.frozen_norm).network,
        optimizer,
        asked.schedule(optimizer, steps),
        lambda done: training_batches(
            source,
            _photos_of(model),
            min(asked.batch_size, len(source)),
            steps,
            asked.seed,
            augment=asked.augment,
            start=done,
        ),
        loss,
        steps=steps,
        checkpoint=FileCheckpoint(partial),
        every=max(1, round(asked.save_every * epoch)),
        advance=advance,
    )
    model.eval()
    owned = {key: value.detach().cpu().contiguous().clone() for key, value in model.network.state_dict().items()}
    run.write_bytes(f"models/{name}.safetensors", save(owned))
    partial.unlink(missing_ok=True)


def _in_training(model: Classifier, frozen_norm: bool) -> Classifier:
    """In training mode, but for batch norm where that is frozen."""
    model.train()
    for module in model.modules():
        if frozen_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            module.eval()
    return model


def accuracy(model: Classifier, source: Source, hardware: Hardware = Hardware(), batch_size: int = 32) -> float:
    """Share of the photos whose class is predicted.

    **Range** [0, 1]; NaN where no photo can be read.
    """
    right = seen = 0
    with torch.no_grad():
        for batch in batches(source, _photos_of(model), batch_size):
            with hardware.autocast():
                predicted = model(hardware.bring(batch.images)).argmax(1).cpu()
            right += int((predicted == batch.labels).sum())
            seen += len(batch.labels)
    return right / seen if seen else float("nan")


def _photos_of(model: Classifier) -> Preprocessing:
    """How photos come to a backbone that is trained here: what its published weights want does not hold."""
    return Preprocessing(model.input_shape)
