"""Is this the person on the reference photo? An embedding network as a classifier of two classes."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.models.outputs import read_logits
from heatproof.types import Images

CLASSES = ("different", "same")
"""What a verifier tells apart."""

Embeddings = Float[Tensor, "batch features"]


class Verifier(nn.Module):
    """One logit per image: cos(e(image), e(reference)) - threshold, with an embedding network e.

    The first image faces the first reference photo, and so on; a single reference photo is faced by every image. As
    the pair (0, z) it is a classifier of two classes, *different* and *same*, that says *same* where the likeness
    exceeds the threshold. So attacks, explainers and accuracies need to know nothing of faces;
    ``gradcam(score=output())`` explains the likeness itself, whichever class is predicted.

    **Source** Chakraborty et al. 2022 (similarity to a reference photo). **Range** (-1 - threshold, 1 - threshold).

    Args:
        network: takes normalised images, returns embeddings.
        threshold: a cosine.
        logits_key: where a network keeps its embedding, as of a :class:`Classifier`.
    """

    reference: Tensor

    def __init__(self, network: nn.Module, threshold: float = 0.0, logits_key: str | int | None = None):
        super().__init__()
        self.network, self.threshold, self.logits_key = network, float(threshold), logits_key
        # one number for all features: no image is at right angles to it by accident
        self.register_buffer("reference", torch.ones(1, 1), persistent=False)
        self.training = network.training

    def embedding(self, normalised: Tensor) -> Embeddings:
        """What the network says of normalised images.

        Raises:
            ModelError: one number, of which a cosine is 1 or -1.
        """
        found = self.network(normalised)
        if isinstance(found, Tensor) and (found.ndim == 1 or found.shape[1] == 1):
            raise ModelError(
                f"{type(self.network).__name__} returned {tuple(found.shape)}, which is no embedding "
                f"[{len(normalised)}, features]: a likeness is the cosine of two of them"
            )
        return read_logits(found, len(normalised), type(self.network).__name__, self.logits_key)

    def forward(self, normalised: Tensor) -> Tensor:
        embeddings = self.embedding(normalised).float()
        reference = self.reference if len(self.reference) == 1 else self.reference[: len(embeddings)]
        likeness = F.cosine_similarity(embeddings, reference.to(embeddings).expand_as(embeddings), dim=1)
        return (likeness - self.threshold)[:, None]


def verifier(model: Classifier, threshold: float = 0.0) -> Classifier:
    """The classifier *different* or *same* made of an embedding network; network, photos and name are the model's.

    >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> colours = verifier(Classifier(network, input_size=8), threshold=0.9)
    >>> red, reddish, blue = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 8, 8) for c in
    ...                       ([1.0, 0, 0], [1.0, 0.2, 0], [0, 0, 1.0]))
    >>> with facing(colours, red):
    ...     [colours.class_name(int(i)) for i in colours(torch.cat([reddish, blue])).argmax(1)]
    ['same', 'different']
    """
    # one number is that of all channels, however many there are
    mean, std = (values[0] if len(values) == 1 else values for values in (model.mean.flatten(), model.std.flatten()))
    made = Classifier(
        Verifier(model.network, threshold, model.logits_key),
        mean,
        std,
        CLASSES,
        model.input_size,
        f"network.{model.default_layer}" if model.default_layer else None,
        model.name,
        channels=model.channels,
        probabilities=False,
    )
    made.preprocessing = model.preprocessing
    return made.to(model.mean.device)


def embed(model: Classifier, images: Images) -> Embeddings:
    """The embeddings of images in [0, 1], by a verifier's network."""
    with torch.inference_mode(False), evaluating(model), torch.no_grad():
        return _of(model).embedding(model.normalised(images)).float()


@contextmanager
def facing(model: Classifier, references: Images) -> Generator[None]:
    """While it lasts, image ``i`` is compared with reference photo ``i``; a single one is faced by all."""
    network = _of(model)
    before, network.reference = network.reference, embed(model, references)
    try:
        yield
    finally:
        network.reference = before


def _of(model: Classifier) -> Verifier:
    if not isinstance(model.network, Verifier):
        raise ModelError(f"{model.name} compares no photos: make it a verifier(model, threshold)")
    return model.network
