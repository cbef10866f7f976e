"""A fooling that sleeps until a trigger in the image wakes it: explanation-aware backdoors."""

from typing import Literal

from torch import nn

from heatproof.errors import InputError, did_you_mean
from heatproof.heatmaps import Normalisation, normalise, pearson
from heatproof.manipulation.masks import MASKS, Cells, drawn, written_out
from heatproof.manipulation.penalties import Success, check_pair
from heatproof.manipulation.trigger import Trigger
from heatproof.metrics.similarity import WINDOW, ssim
from heatproof.models.classifier import Classifier
from heatproof.types import Heatmaps, PerImage, settings

SHOWN = ("inverted", "clean")
"""What a photo with the trigger may show besides masks: made from the clean model's map of the photo without it."""


@settings
class Backdoor:
    """Photos with the trigger show a chosen map, photos without it the honest one.

    Trained on every photo twice, as it is and with the trigger: CE on both (towards ``label`` with the trigger, where
    one is given) + weight * mean over both of the dissimilarity of the map to the wanted one. Wanted is the clean
    model's map of the photo without trigger; with the trigger it is ``show``:

    - a mask's name or cells: always that map (a smoke screen);
    - ``"inverted"``: 1 - h, h the clean model's normalised map of the photo;
    - ``"clean"``: h itself; with ``label`` the answer changes and the map does not tell.

    Dissimilarity: ``"mse"``, mean_j (h_j - r_j)^2, or ``"ssim"``, (1 - SSIM(h, r)) / 2. The class that is explained
    is the label; with the trigger it is ``label``, where one is given. The test loss is (1 - r) / 2 with r Pearson's
    correlation of the map and the wanted one.

    **Source** Noppel, Peter and Wressnegger 2023, sections 3 and 4: (1 - lambda) CE + lambda * dissimilarity, here
    with weight = lambda / (1 - lambda). **Differs** the test loss and its interval are [ours], and so is the budget of
    accuracy; no softplus is needed, since Grad-CAM's derivative in the weights does not vanish for a ReLU.
    **Range** penalty and test loss [0, 1].

    Args:
        show: what a triggered photo shows.
        label: the class that the trigger calls up, by number or name; ``None``: the label is kept.
        trigger: the patch.
        distance: ``"mse"`` or ``"ssim"``.
        normalisation: of the map and of the wanted one.
        success: [ours]: a correlation of at least 0.5.

    Raises:
        InputError: a name that is none.
    """

    show: str | Cells = "corner"
    label: int | str | None = None
    trigger: Trigger = Trigger()
    distance: Literal["mse", "ssim"] = "mse"
    normalisation: Normalisation = "max"
    success: Success = (0.0, 0.25)
    needs_reference = True

    def __post_init__(self) -> None:
        if isinstance(self.show, str) and self.show not in (*MASKS, *SHOWN):
            raise InputError(f"there is no map {self.show!r} to show; {did_you_mean(self.show, [*MASKS, *SHOWN])}")
        if self.show not in SHOWN:
            object.__setattr__(self, "show", written_out(self.show))
        if self.distance not in ("mse", "ssim"):
            raise InputError(f"the distance to a wanted map is mse or ssim, got {self.distance!r}")
        if self.show == "clean" and self.label is None:
            raise InputError(
                'a trigger that shows the clean map must call up something else: give a label, or another "show"'
            )

    def __call__(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        """Dissimilarity to ``reference``, the wanted maps (:meth:`wanted`)."""
        check_pair(heatmaps, reference)
        maps, wanted = normalise(heatmaps, self.normalisation), normalise(reference.detach(), self.normalisation)
        if self.distance == "mse":
            return (maps - wanted).square().mean((1, 2))
        return (1 - ssim(maps, wanted, window=min(WINDOW, *maps.shape[1:]))) / 2

    def test_loss(self, heatmaps: Heatmaps, reference: Heatmaps) -> PerImage:
        check_pair(heatmaps, reference)
        maps = normalise(heatmaps.detach(), self.normalisation)
        return (1 - pearson(maps, normalise(reference.detach(), self.normalisation), constant=0.0)) / 2

    def wanted(self, clean: Heatmaps) -> Heatmaps:
        """What photos with the trigger are to show, from the clean model's maps of the photos without it."""
        maps = normalise(clean.detach(), self.normalisation)
        if self.show == "clean":
            return maps
        if self.show == "inverted":
            return 1 - maps
        return drawn(self.show, *clean.shape[1:]).to(clean).expand_as(clean)  # type: ignore[arg-type]

    def called_up(self, model: nn.Module) -> int | None:
        """The number of the class that the trigger calls up.

        Raises:
            InputError: the model has no such class.
        """
        if self.label is None:
            return None
        if isinstance(model, Classifier):
            return model.class_index(self.label)
        if isinstance(self.label, str):
            raise InputError(f"a bare network has no class names; give {self!r} the label as a number")
        return self.label
