"""What the clean model says: the classes to explain, its heatmaps and its logits; once, where that is possible."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from heatproof.errors import InputError, RunError
from heatproof.models.intact import evaluating
from heatproof.training.feeds import Fed, Feed
from heatproof.types import Explainer, Images, Targets

IN_MEMORY = 2 << 30
"""Bytes that one kept tensor may take; beyond, it lies in a file of the scratch folder, or is not kept."""


class Said(NamedTuple):
    """What the clean model says about a batch; for a swap two rows per image, the first and the second class."""

    targets: Targets
    maps: Tensor | None
    logits: Tensor | None


@dataclass(frozen=True)
class Witness:
    """The clean model as a witness.

    Args:
        model: the clean model, or its tail.
        explainer: the one to be fooled.
        swap: the two classes of an active fooling.
        needs_maps: the penalty compares with the clean maps.
        needs_logits: the function is kept by the clean logits.
        call: runs the model; here precision is set.
    """

    model: nn.Module
    explainer: Explainer
    swap: tuple[int, int] | None
    needs_maps: bool
    needs_logits: bool
    call: Callable

    @property
    def silent(self) -> bool:
        """Whether it need not be asked about labelled images."""
        return not (self.needs_maps or self.needs_logits)

    def says(self, fed: Fed) -> Said:
        """The clean model's classes, maps and logits; unlabelled images are explained for the class it predicts."""
        images = fed.images
        if self.swap:
            images, targets = doubled(images, self.swap)
            maps = self.call(self.explainer, self.model, images, targets).heatmaps.detach() if self.needs_maps else None
            return Said(targets, maps, None)
        known = fed.labels >= 0
        if self.silent and bool(known.all()):
            return Said(fed.labels, None, None)
        if self.needs_maps and (bool(known.all()) or not bool(known.any())):
            explanation = self.call(self.explainer, self.model, images, fed.labels if known.all() else None)
            return Said(explanation.targets, explanation.heatmaps.detach(), explanation.logits.detach().float())
        logits = self.logits(images)
        targets = torch.where(known, fed.labels, logits.argmax(1))
        maps = self.call(self.explainer, self.model, images, targets).heatmaps.detach() if self.needs_maps else None
        return Said(targets, maps, logits)

    def logits(self, images: Images) -> Tensor:
        with torch.no_grad(), evaluating(self.model):
            return self.call(self.model, images).float()


def doubled(images: Images, swap: tuple[int, int]) -> tuple[Images, Targets]:
    """Every image twice in a row, to be explained for the first class and for the second."""
    targets = torch.tensor(swap, device=images.device).repeat(len(images))
    return images.repeat_interleave(2, 0), targets


class Kept(NamedTuple):
    """What the clean model said about every image of a feed, by position."""

    targets: Tensor
    maps: Tensor | None
    logits: Tensor | None

    def at(self, positions: Tensor, device: torch.device) -> Said:
        def rows(kept: Tensor | None) -> Tensor | None:
            # a swap keeps two rows per image
            return None if kept is None else kept[positions].flatten(0, 1).to(device)

        maps, logits = rows(self.maps), rows(self.logits)
        return Said(self.targets[positions].flatten().to(device), maps, logits)


def keep(
    witness: Witness, feed: Feed, name: str, batch_size: int, device: torch.device, scratch: Path | None
) -> Kept | None:
    """Ask about every image once; ``None`` where the maps take too much room.

    Asked in the order of the feed and in equal batches, so that a resumed run gets the same numbers to the last bit.
    """
    targets: Tensor | None = None
    maps: Tensor | None = None
    logits: Tensor | None = None
    for fed in feed.ordered(batch_size):
        said = witness.says(brought(fed, device))
        each = len(said.targets) // len(fed.positions)
        if targets is None:
            targets = torch.zeros(len(feed), each, dtype=torch.long)
            if said.maps is not None:
                maps = room((len(feed), each, *said.maps.shape[1:]), scratch, f"maps-{name}")
                if maps is None:
                    return None
            logits = torch.zeros(len(feed), 1, said.logits.shape[1]) if said.logits is not None else None
        targets[fed.positions] = said.targets.cpu().view(-1, each)
        if maps is not None and said.maps is not None:
            maps[fed.positions] = said.maps.float().cpu().view(-1, each, *said.maps.shape[1:])
        if logits is not None and said.logits is not None:
            logits[fed.positions] = said.logits.cpu()[:, None]
    if targets is None:
        raise InputError("none of the images can be read")
    return Kept(targets, maps, logits)


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


def brought(fed: Fed, device: torch.device) -> Fed:
    """The batch on the device."""
    return Fed(fed.positions, fed.images.to(device), fed.labels.to(device))
