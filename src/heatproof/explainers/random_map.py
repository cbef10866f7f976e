"""A control that explains nothing: what a metric says of it, it says of chance."""

import hashlib

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.explainers.together import predict
from heatproof.models.classifier import check_images, resolve_targets
from heatproof.types import Classes, Explanation, Images, settings


@settings
class RandomMap:
    """Noise in the place of a heatmap, uniform in [0, 1]: the control of ``heatproof evaluate``.

    The noise follows from the image's own pixels and the seed: equal images have equal maps, an image's map does not
    depend on its neighbours, and an image that differs in a single bit has another. It asks neither the network's
    weights nor the class, and so must come out unfaithful, unsteady and beside the object, and fail the randomisation
    test.

    **Source** random attributions as a baseline: Samek et al. 2017, section IV; Hooker et al. 2019. Noise per image
    is [ours].
    **Range** [0, 1], without a sign.

    Args:
        cells: side of the map; 8 is as coarse as a Grad-CAM of a small network.
        seed: of the noise.

    Raises:
        InputError: fewer than 2 cells a side.
    """

    cells: int = 8
    seed: int = 0
    signed = False
    classless = True

    def __post_init__(self) -> None:
        if self.cells < 2:
            raise InputError(f"a random map has at least 2 cells a side, got {self.cells}")

    def __call__(
        self, model: nn.Module, images: Images, targets: Classes | None = None, *, create_graph: bool = False
    ) -> Explanation:
        check_images(model, images)
        logits = predict(model, images, create_graph=create_graph)
        drawn = [torch.rand(self.cells, self.cells, generator=self._generator(image)) for image in images]
        return Explanation(torch.stack(drawn).to(images.device), logits, resolve_targets(logits, targets, model))

    def _generator(self, image: torch.Tensor) -> torch.Generator:
        pixels = image.detach().float().cpu().contiguous().numpy().tobytes()
        digest = hashlib.blake2b(pixels, digest_size=7, key=self.seed.to_bytes(8, "big", signed=True)).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
