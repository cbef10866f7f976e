"""The studies' small networks, trained from random weights into a file; a training that was stopped goes on."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from heatproof.errors import InputError
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.whole import write_whole
from heatproof.training.feeds import Fed, Feed
from heatproof.training.plain import train
from heatproof.types import Images, Logits

T = TypeVar("T")


def train_from_scratch(
    build: Callable[[], nn.Module],
    file: Path,
    make_optimizer: Callable[[nn.Module], Optimizer],
    make_schedule: Callable[[Optimizer], LRScheduler],
    batches: Callable[[int], Iterable[T]],
    loss: Callable[[nn.Module, T, int], Tensor],
    *,
    steps: int,
    every: int,
    seed: int,
    generator: Generator | None = None,
    advance: Callable[[int, float], None] = lambda done, loss: None,
) -> None:
    """The network of ``build`` (random by ``seed``), trained into ``file``; a checkpoint lies beside it meanwhile.

    The further arguments are those of :func:`heatproof.training.plain.train`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().train()
    optimizer = make_optimizer(network)
    checkpoint = FileCheckpoint(file.with_suffix(".partial.pt"))
    train(
        network,
        optimizer,
        make_schedule(optimizer),
        batches,
        lambda batch, step: loss(network, batch, step),
        steps=steps,
        checkpoint=checkpoint,
        every=every,
        generator=generator,
        advance=advance,
    )
    write_whole(file, save(network.state_dict()))
    checkpoint.path.unlink(missing_ok=True)


def train_on_photos(
    build: Callable[[], nn.Module],
    file: Path,
    feed: Feed,
    make_optimizer: Callable[[nn.Module], Optimizer],
    logits: Callable[[nn.Module, Images, float, Generator], Logits],
    *,
    lr: float,
    rise: float,
    epochs: int,
    batch_size: int,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Cross-entropy on photos that are mirrored half of the time; one that was stopped goes on at its last epoch.

    Args:
        feed: all training images.
        logits: of the network for images in [0, 1], with the share of the training that is done and what to draw from.
        lr: peak of a one-cycle learning rate.
        rise: the share of the training until it is reached.

    Raises:
        InputError: there are fewer images than one batch takes.
    """
    if file.exists():
        return
    if len(feed) < batch_size:
        raise InputError(f"{file.stem} is trained on batches of {batch_size} photos, and there are {len(feed)}")
    generator = Generator().manual_seed(seed)
    each, right = len(feed) // batch_size, 0
    steps = epochs * each

    def loss(network: nn.Module, fed: Fed, step: int) -> Tensor:
        nonlocal right
        mirrored = torch.rand(len(fed.labels), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], fed.images.flip(3), fed.images)
        answer = logits(network, images, step / steps, generator)
        right += int((answer.argmax(1) == fed.labels).sum())
        return F.cross_entropy(answer, fed.labels)

    def advance(done: int, loss: float) -> None:
        nonlocal right
        if done % each == 0:
            say(f"{file.stem}: epoch {done // each} of {epochs}, {right / (each * batch_size):.1%} right in training")
            right = 0

    train_from_scratch(
        build,
        file,
        make_optimizer,
        lambda optimizer: OneCycleLR(optimizer, lr, total_steps=steps, pct_start=rise),
        lambda done: feed.stream(batch_size, steps, seed, done),
        loss,
        steps=steps,
        every=each,
        seed=seed,
        generator=generator,
        advance=advance,
    )
