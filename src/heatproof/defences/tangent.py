"""Explanations along the photos' own manifold: what lies across it says nothing of photos."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.defences.noisy import check_wrapped
from heatproof.errors import InputError
from heatproof.explainers.gradient import SimpleGrad
from heatproof.models.classifier import Classifier, check_images
from heatproof.preprocessing import Preprocessing
from heatproof.types import Classes, Explainer, Explanation, Images, PerChannel, is_signed, settings

Basis = Float[Tensor, "batch pixels dimensions"]
"""Orthonormal columns that span the tangent space at each image."""
Autoencoder = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""``(encode, decode)``: images to codes ``[batch, ...]`` and back."""
FEWEST = 2
"""Photos that span anything about their mean."""


class _Photos:
    """Photos that were given as a tensor; a record can only say how many, and digits of them."""

    def __init__(self, images: Images):
        self.images = images.detach()

    def __repr__(self) -> str:
        digits = hashlib.sha256(self.images.cpu().contiguous().double().numpy().tobytes()).hexdigest()[:12]
        return f"<{len(self.images)} photos, sha256 {digits}>"


@settings
class Tangent:
    """An explainer of pixels, projected onto the tangent space of photos: values <- V V^T values, then summed.

    V holds the d leading right singular vectors of the k nearest photos about their mean; or the leading left singular
    vectors of a decoder's Jacobian at the photo's code. A network's derivative across the photos' manifold can be
    chosen at will without changing an answer to any photo; what lies along it cannot.

    **Source** Anders et al. 2020 and code (k = 32, d = 16; autoencoder). **Differs** the photo itself is not among the
    points, so that V does not change with it and the derivative of the map is exact, with k fixed [ours].
    **Range** that of the explainer.

    Args:
        explainer: one that says something of each channel of each pixel: ``simple_grad()``, ``input_x_gradient()``,
            ``integrated_gradients()``, ``guided_backprop()``.
        photos: a data name or folder of photos such as the network knows, fitted to its input; or images in [0, 1].
            They are not the photos to be explained.
        k: nearest photos.
        d: dimensions, fewer than k.
        limit: of photos that are looked through.
        autoencoder: ``(encode, decode)`` instead of photos, from Python.

    Raises:
        InputError: neither photos nor autoencoder, too few photos, or an explainer that says nothing of channels.
    """

    explainer: Explainer = SimpleGrad()
    photos: Any = None
    k: int = 32
    d: int = 16
    limit: int = 1000
    autoencoder: Autoencoder | None = None

    def __post_init__(self) -> None:
        check_wrapped("tangent", self.explainer)
        if not isinstance(self.explainer, PerChannel):
            raise InputError(
                f"tangent projects what an explainer says of each channel of each pixel, which {self.explainer!r} does "
                "not; wrap simple_grad(), input_x_gradient(), integrated_gradients() or guided_backprop()"
            )
        if isinstance(self.photos, Tensor):
            object.__setattr__(self, "photos", _Photos(self.photos))
        if not 0 < self.d < self.k:
            raise InputError(f"0 < d < k was expected (k points span k - 1 directions), got d={self.d} and k={self.k}")

    @property
    def signed(self) -> bool:
        return is_signed(self.explainer)

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        assert isinstance(self.explainer, PerChannel)
        basis = self._basis(model, images)
        values, logits, targets = self.explainer.attribute(model, images, targets, create_graph=create_graph)
        # autocast is for convolutions: what is left of a projection is a small difference
        with _exactly(images), torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            flat = values.flatten(1)[:, :, None]
            projected = (basis @ (basis.transpose(1, 2) @ flat))[:, :, 0].view(values.shape)
            heatmaps = self.explainer.summed(projected)
        return Explanation(heatmaps if create_graph else heatmaps.detach(), logits, targets)

    def _basis(self, model: nn.Module, images: Images) -> Basis:
        with _exactly(images), torch.inference_mode(False), torch.no_grad():
            images = images.clone() if images.is_inference() else images.detach()
            if self.autoencoder is not None:
                return _decoder_basis(self.autoencoder, images, self.d)
            known = self._known(model).to(images)
            if known.shape[1:] != images.shape[1:]:
                raise InputError(
                    f"photos like the images, {list(images.shape[1:])}, were expected, got {list(known.shape[1:])}"
                )
            if len(known) < self.k:
                raise InputError(f"k={self.k} nearest photos were asked for, and there are {len(known)}")
            return torch.stack([_neighbour_basis(known, image, self.k, self.d) for image in images])

    def _known(self, model: nn.Module) -> Images:
        if isinstance(self.photos, _Photos):
            return self.photos.images
        if self.photos is None:
            raise InputError(
                "tangent needs photos of the kind that the network knows, other than those to be explained: "
                "tangent(simple_grad(), photos='FOLDER')"
            )
        if not isinstance(model, Classifier):
            raise InputError("photos by name are fitted to a Classifier's input; give a bare network images in [0, 1]")
        return _read(str(self.photos), model.preprocessing, self.limit)


def _exactly(images: Images) -> torch.autocast:
    return torch.autocast(images.device.type, enabled=False)


def _neighbour_basis(
    known: Float[Tensor, "photos channels rows cols"], image: Tensor, k: int, d: int
) -> Float[Tensor, "pixels dimensions"]:
    far = (known - image).flatten(1).norm(dim=1)
    nearest = known[far.argsort(stable=True)[:k]].flatten(1)
    around = nearest - nearest.mean(0)
    # the small side's eigenvectors are far cheaper than a decomposition of k x pixels, and give the same space
    values, vectors = torch.linalg.eigh((around @ around.T).double())
    leading = values[-d:] > 1e-10 * values[-1].clamp(min=1e-30)
    left = vectors[:, -d:] * leading / torch.where(leading, values[-d:], torch.ones_like(values[-d:])).sqrt()
    return around.T @ left.to(around)


def _decoder_basis(autoencoder: Autoencoder, images: Images, d: int) -> Basis:
    encode, decode = autoencoder
    bases = []
    for image in images[:, None]:
        code = encode(image).detach()
        jacobian = torch.func.jacfwd(lambda z: decode(z).flatten())(code).flatten(1)
        if jacobian.shape[0] != image.numel():
            raise InputError(
                f"decode gives {jacobian.shape[0]} numbers where the image has {image.numel()}: an autoencoder of such "
                "images was expected"
            )
        bases.append(torch.linalg.svd(jacobian, full_matrices=False).U[:, :d])
    return torch.stack(bases)


@lru_cache(maxsize=2)
def _read(name: str, preprocessing: Preprocessing, limit: int) -> Images:
    source = open_data(name, classes=None, limit=limit, labels=False, preprocessing=preprocessing)
    parts = [batch.images for batch in batches(source, preprocessing, 64)]
    if not parts:
        raise InputError(f"none of the photos of {name} could be read")
    return torch.cat(parts)
