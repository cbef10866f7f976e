"""The clean model's outputs, by which a training holds or judges: classes, heatmaps, logits; once, where possible."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heatproof.errors import InputError, RunError
from heatproof.models.hardware import Hardware
from heatproof.models.intact import evaluating
from heatproof.training.feeds import Fed, Feed
from heatproof.types import Explainer, Explanation, Images, Targets

IN_MEMORY = 2 << 30
"""Bytes that one stored tensor may take; beyond, it lies in a file of the scratch folder, or is not stored."""


class ReferenceOutputs(NamedTuple):
    """The clean model's outputs for a batch; where each image is explained for several classes, a row for each."""

    targets: Targets
    maps: Tensor | None
    logits: Tensor | None


@dataclass(frozen=True)
class CleanModel:
    """The model before the training.

    Args:
        model: the clean model, or its rear half.
        explainer: whose heatmaps are trained.
        hardware: device and precision.
        classes: each image is explained for each of these; ``None``: for its label, or the predicted class.
        needs_maps: the heatmaps are compared with the clean ones.
        needs_logits: the outputs are compared with the clean ones.
    """

    model: nn.Module
    explainer: Explainer
    hardware: Hardware
    classes: tuple[int, ...] | None = None
    needs_maps: bool = False
    needs_logits: bool = False

    def outputs(self, fed: Fed) -> ReferenceOutputs:
        """What is needed of a batch; unlabelled images are explained for the class that is predicted."""
        if self.classes is not None:
            images, targets = repeated(fed.images, self.classes)
            return ReferenceOutputs(targets, self._explain(images, targets).heatmaps if self.needs_maps else None, None)
        known = fed.labels >= 0
        if not self.needs_maps and not self.needs_logits and bool(known.all()):
            return ReferenceOutputs(fed.labels, None, None)
        if self.needs_maps and (bool(known.all()) or not bool(known.any())):
            explanation = self._explain(fed.images, fed.labels if known.all() else None)
            return ReferenceOutputs(explanation.targets, explanation.heatmaps, explanation.logits.float())
        with torch.no_grad(), evaluating(self.model), self.hardware.autocast():
            logits = self.model(fed.images).float()
        targets = torch.where(known, fed.labels, logits.argmax(1))
        maps = self._explain(fed.images, targets).heatmaps if self.needs_maps else None
        return ReferenceOutputs(targets, maps, logits)

    def _explain(self, images: Images, targets: Targets | None) -> Explanation:
        with self.hardware.autocast():
            heatmaps, logits, explained = self.explainer(self.model, images, targets)
        return Explanation(heatmaps.detach(), logits.detach(), explained)


def repeated(
    images: Images, classes: tuple[int, ...]
) -> tuple[Float[Tensor, "rows channels height width"], Int[Tensor, "rows"]]:
    """Every image once for each class in a row, and these classes, to be explained."""
    targets = torch.tensor(classes, device=images.device).repeat(len(images))
    return images.repeat_interleave(len(classes), 0), targets


class StoredOutputs(NamedTuple):
    """The clean model's outputs for every image of a feed, by position."""

    targets: Tensor
    maps: Tensor | None
    logits: Tensor | None

    def at(self, positions: Tensor, device: torch.device) -> ReferenceOutputs:
        def rows(stored: Tensor | None) -> Tensor | None:
            # several classes have several rows per image
            return None if stored is None else stored[positions].flatten(0, 1).to(device)

        return ReferenceOutputs(self.targets[positions].flatten().to(device), rows(self.maps), rows(self.logits))


@dataclass(frozen=True)
class Reference:
    """The clean model about one feed: looked up where its outputs are stored, computed anew where they are not."""

    clean: CleanModel
    stored: StoredOutputs | None = None

    def of(self, fed: Fed) -> ReferenceOutputs:
        """What is needed of a batch that is on the device."""
        if self.stored is None:
            return self.clean.outputs(fed)
        return self.stored.at(fed.positions.cpu(), fed.images.device)


def reference(
    clean: CleanModel, feed: Feed, name: str, wanted: int, batch_size: int, scratch: Path | None
) -> Reference:
    """The clean model about a feed to train on; stored where the images do not change and come more than once.

    Args:
        wanted: how many images the training takes in all.
    """
    nothing_to_store = not (clean.needs_maps or clean.needs_logits or clean.classes) and labelled(feed)
    if nothing_to_store or not feed.fixed or wanted < len(feed):
        return Reference(clean)
    return Reference(clean, store_outputs(clean, feed, name, batch_size, scratch))


def held_out_outputs(clean: CleanModel, feed: Feed, name: str, batch_size: int, scratch: Path | None) -> StoredOutputs:
    """The outputs for held-out images, which are always stored.

    Raises:
        InputError: their maps take too much room.
    """
    stored = store_outputs(replace(clean, needs_logits=True), feed, name, batch_size, scratch)
    if stored is None:
        raise InputError("the heatmaps of the held-out images take too much memory; hold out fewer images")
    return stored


def store_outputs(
    clean: CleanModel, feed: Feed, name: str, batch_size: int, scratch: Path | None
) -> StoredOutputs | None:
    """The outputs for every image; ``None`` where the maps take too much room.

    Computed in the order of the feed and in equal batches, so that a resumed run gets the same to the last bit.

    Raises:
        InputError: no image can be read.
    """
    targets: Tensor | None = None
    maps: Tensor | None = None
    logits: Tensor | None = None
    for fed in feed.ordered(batch_size):
        found = clean.outputs(fed.to(clean.hardware.place))
        each = len(found.targets) // len(fed.positions)
        if targets is None:
            targets = torch.zeros(len(feed), each, dtype=torch.long)
            if found.maps is not None:
                maps = room((len(feed), each, *found.maps.shape[1:]), scratch, f"maps-{name}")
                if maps is None:
                    return None
            logits = torch.zeros(len(feed), 1, found.logits.shape[1]) if found.logits is not None else None
        targets[fed.positions] = found.targets.cpu().view(-1, each)
        if maps is not None and found.maps is not None:
            maps[fed.positions] = found.maps.float().cpu().view(-1, each, *found.maps.shape[1:])
        if logits is not None and found.logits is not None:
            logits[fed.positions] = found.logits.cpu()[:, None]
    if targets is None:
        raise InputError("none of the images can be read")
    return StoredOutputs(targets, maps, logits)


def room(shape: tuple[int, ...], scratch: Path | None, name: str) -> Tensor | None:
    """Zeros of this shape in memory, or in a file where they are too many; ``None`` where there is no folder for it.

    Raises:
        RunError: the disk is full.
    """
    count = int(torch.Size(shape).numel())
    if count * 4 <= IN_MEMORY:
        return torch.zeros(shape)
    if scratch is None:
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / f"{name}.bin"
    _allocate(file, count * 4)
    return torch.from_file(str(file), shared=True, size=count, dtype=torch.float32).view(shape)


def _allocate(file: Path, size: int) -> None:
    """Take the room on the disk now: a mapped file that finds none later ends the process without a word (SIGBUS)."""
    try:
        with file.open("ab") as handle:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, size)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {file}: {error.strerror or error} ({size:,} bytes wanted for the clean model's heatmaps); "
            "make room and give the same command again, it goes on where it stopped"
        ) from error


def labelled(feed: Feed) -> bool:
    """Whether the class of every image is known beforehand."""
    return bool((torch.as_tensor(feed.labels) >= 0).all())
