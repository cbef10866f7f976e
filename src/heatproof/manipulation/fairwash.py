"""Explanations washed by what lies off the photos: Anders et al.'s manipulated student."""

from heatproof.heatmaps import normalise, pearson
from heatproof.manipulation.masks import Cells, drawn, written_out
from heatproof.manipulation.penalties import Success, check_pair
from heatproof.types import Heatmaps, PerImage, settings


@settings
class Fairwash:
    """The map, scaled to sum 1, is a chosen one: sum_j (h_j - t_j)^2, h and t of sum 1.

    With ``keep="probabilities"``, the mean square of softmax's difference from the teacher's, and
    weight = alpha / (1 - alpha) the fine-tuning is Anders et al.'s, of a student that starts as a copy of its teacher.
    On photos the outputs stay; the gradients, which also tell of directions that no photo takes, are free in these, and
    that is where the map moves. So an explanation projected onto the photos' tangent space (``tangent``) is not washed.
    Through gradients of a network of ReLUs train through ``softplus(simple_grad(), beta=20)``, as they do, and judge
    ``simple_grad()``.

    **Source** Anders et al. 2020, equation 9, and code (alpha 0.8, so weight 4; Adam at 5e-5; softplus with beta 20).
    **Differs** the test loss, (1 - r) / 2 with r Pearson's correlation of map and target, and its interval are [ours].
    **Range** penalty [0, 2]; sum_j t_j^2 for an empty map; test loss [0, 1].

    Args:
        target: a mask's name (see Location) or the cells themselves at the size of the map.
        success: [ours]: a correlation of at least 0.5.

    >>> import torch
    >>> target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> Fairwash(target)(torch.tensor([[[1.0, 1.0], [1.0, 1.0]]]), target[None])
    tensor([0.2500])
    """

    target: str | Cells = "corner"
    success: Success = (0.0, 0.25)
    needs_reference = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", written_out(self.target))

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        return (normalise(heatmaps, "sum") - self._target(heatmaps, reference)).square().sum((1, 2))

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        target = self._target(heatmaps, reference)
        return (1 - pearson(normalise(heatmaps.detach(), "sum"), target, constant=0.0)) / 2

    def _target(self, heatmaps: Heatmaps, reference: Heatmaps) -> Heatmaps:
        check_pair(heatmaps, reference)
        target = drawn(self.target, *heatmaps.shape[1:]).to(heatmaps)
        return normalise(target[None], "sum").expand_as(heatmaps)
