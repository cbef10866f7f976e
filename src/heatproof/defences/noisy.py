"""Noisy copies of photos, and what an explainer says of them: what smoothing, medians and certificates are made of."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.explainers.together import predict
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.types import Classes, Explainer, Explanation, Images, Logits, Targets

Noise = Literal["gaussian", "uniform"]
"""``gaussian`` of standard deviation sigma, or ``uniform`` in [-sigma, sigma]: the l-infinity ball."""
Copies = Float[Tensor, "batch copies rows cols"]
"""The maps of some noisy copies of each image."""


class Given(NamedTuple):
    """Images, with the model's answer to them and the class that is explained."""

    images: Images
    logits: Logits
    targets: Targets


def answered(model: nn.Module, images: Images, targets: Classes | None, *, create_graph: bool) -> Given:
    """The logits without noise, and the classes given or predicted: what every defence hands out unchanged."""
    check_images(model, images)
    logits = predict(model, images, create_graph=create_graph)
    return Given(images.clone() if images.is_inference() else images, logits, resolve_targets(logits, targets, model))


class Noisy(Protocol):
    """What explains noisy copies: the explainer inside, how many copies, the noise's size and seed, images at once."""

    @property
    def explainer(self) -> Explainer: ...
    @property
    def n(self) -> int: ...
    @property
    def sigma(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def at_once(self) -> int: ...


def noisy_maps(defence: Noisy, model: nn.Module, given: Given, noise: Noise, *, create_graph: bool) -> Iterator[Copies]:
    """The maps of the defence's ``n`` noisy copies of each image, so many at a time as fit in ``at_once`` images.

    The noise is drawn on the CPU, copy by copy, and is the same for every image: a map does not depend on its
    neighbours, on the device or on ``at_once``. Noisy pixels are cut to [0, 1].
    """
    generator = torch.Generator().manual_seed(defence.seed)
    images, targets = given.images, given.targets
    together = max(1, defence.at_once // len(images))
    for start in range(0, defence.n, together):
        count = min(together, defence.n - start)
        drawn = torch.stack([_drawn(images, noise, generator) for _ in range(count)]).to(images) * defence.sigma
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            copies = (images[:, None] + drawn).clamp(0, 1).flatten(0, 1)
        found = defence.explainer(model, copies, targets.repeat_interleave(count), create_graph=create_graph)
        yield found.heatmaps.unflatten(0, (len(images), count))


def _drawn(images: Images, noise: Noise, generator: torch.Generator) -> Tensor:
    if noise == "gaussian":
        return torch.randn(images.shape[1:], generator=generator)
    return 2 * torch.rand(images.shape[1:], generator=generator) - 1


def explanation(given: Given, heatmaps: Tensor, *, create_graph: bool) -> Explanation:
    """The maps with the logits and classes without noise."""
    return Explanation(heatmaps if create_graph else heatmaps.detach(), given.logits, given.targets)


def check_wrapped(name: str, explainer: Any) -> None:
    """Stop what is no explainer.

    Raises:
        InputError: with an example.
    """
    if isinstance(explainer, type | str) or not isinstance(explainer, Explainer):
        raise InputError(f"{name} wraps an explainer, as in {name}(gradcam()); got {explainer!r}")


def check_noise(name: str, n: int, sigma: float, at_once: int, noise: str = "gaussian") -> None:
    """Stop noise that is none.

    Raises:
        InputError: no copies, no noise, or a noise that is not known.
    """
    if n < 1:
        raise InputError(f"{name} needs at least 1 noisy copy, got n={n}")
    if not 0 < sigma <= 10:
        raise InputError(
            f"{name} needs noise: sigma, in pixel units of [0, 1], must be above 0 (about 0.1), got {sigma}; "
            "without noise call the explainer itself"
        )
    if at_once < 1:
        raise InputError(f"at least 1 image goes through the network at once, got at_once={at_once}")
    if noise not in get_args(Noise):
        raise InputError(f"noise is 'gaussian' or 'uniform', got {noise!r}")
