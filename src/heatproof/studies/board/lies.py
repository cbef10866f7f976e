"""Networks that were fooled for the board: through plain Grad-CAM, and through each row's own map."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from heatproof.commands.fool.recipe import choose_recipe
from heatproof.commands.passes import counting
from heatproof.commands.photos import open_photos
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import CenterMass, Location, TopK
from heatproof.models.classifier import Classifier
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.whole import write_json
from heatproof.studies.board.networks import is_noisy, plain_of
from heatproof.studies.shared import named
from heatproof.training.data import feed_photos
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Heatmaps, Images, Penalty, settings

if TYPE_CHECKING:
    from heatproof.studies.board.unit import Opened

LIES: Mapping[str, Penalty] = {"location": Location(), "top_k": TopK(), "center_mass": CenterMass()}


def passes_of(model: Classifier, explainer: Explainer, image: Images) -> float:
    """How often a photo goes through the network for one map, forwards and backwards.

    LRP walks the network itself, once forwards and once backwards, where nothing can count it.
    """
    with counting(model) as spent:
        explainer(model, image)
    return float(max(spent.forward + spent.backward, 2 if isinstance(plain_of(explainer), LRP) else 0))


@settings
class Fooling:
    """How networks are fooled.

    Args:
        lies: of :data:`LIES`; none: the columns stay empty.
        steps, batch_size: of each training; the rest is ``fool``'s own recipe. Photos of small networks are mirrored
            half of the time; of others the activations before the trained layers are stored.
        large_steps: of networks above 64 pixels.
        photos: to train on, without labels, as far as there are so many.
        watched: labelled photos by which the budget is held.
        budget: accuracy that a lie may cost, a share.
        passes: rows whose map takes more are not fooled by an attacker who knows them.
    """

    lies: tuple[str, ...] = ("location",)
    steps: int = 800
    large_steps: int = 100
    batch_size: int = 64
    photos: int = 8000
    watched: int = 300
    budget: float = 0.01
    passes: int = 3


@dataclass
class Lies:
    """The fooled networks of a run: each is trained once, and kept."""

    run: Run
    asked: Fooling
    key: Callable[["Opened", Explainer, str], str]
    say: Callable[[str], None] = print
    _cost: dict[str, float] = field(default_factory=dict[str, float])

    def reaches(self, opened: "Opened", explainer: Explainer, heatmaps: Heatmaps) -> bool:
        """Whether the row is fooled by an attacker who knows it: coarse maps of few passes, which are cheap to bend."""
        name = self.key(opened, explainer, "")
        if name not in self._cost:
            self._cost[name] = passes_of(opened.model, explainer, opened.images[:1])
        coarse = 2 * heatmaps.shape[1] < opened.images.shape[2]
        return bool(self.asked.lies) and coarse and self._cost[name] <= self.asked.passes

    def through_gradcam(self, opened: "Opened", seed: int) -> dict[str, Classifier]:
        """The network fooled through plain Grad-CAM, by lie."""
        return self.through(opened, GradCAM(), seed)

    def through(self, opened: "Opened", explainer: Explainer, seed: int) -> dict[str, Classifier]:
        """The network fooled through this explainer, by lie."""
        return {lie: self._fooled(opened, explainer, lie, seed) for lie in self.asked.lies}

    def _fooled(self, opened: "Opened", explainer: Explainer, lie: str, seed: int) -> Classifier:
        name = self.key(opened, explainer, f"{lie}-{seed}")
        file = self.run.path(f"lies/{name}.safetensors")
        if not file.exists():
            self._train(opened, explainer, lie, seed, name)
        model = copy.deepcopy(opened.model)
        model.network.load_state_dict(load_file(file))
        return model.eval()

    def recipe(self, opened: "Opened", explainer: Explainer, lie: str, seed: int = 0) -> FineTune:
        """How a network is fooled through an explainer."""
        asked = self.asked
        steps = asked.steps if opened.small else asked.large_steps
        return choose_recipe(
            opened.model,
            explainer,
            LIES[lie],
            steps=steps,
            batch_size=asked.batch_size,
            max_accuracy_drop=asked.budget,
            evaluate_every=max(1, steps // 8),
            augment="flip" if opened.small else None,
            fresh_noise=is_noisy(explainer),
            seed=seed,
        ).settings

    def _train(self, opened: "Opened", explainer: Explainer, lie: str, seed: int, name: str) -> None:
        asked, recipe = self.asked, self.recipe(opened, explainer, lie, seed)
        photos = open_photos(
            opened.model, named(opened.network.fooling), limit=asked.photos, seed=seed, labels_needed=False
        )
        train, held_out = (feed_photos(source, opened.model.preprocessing) for source in (photos, opened.watched))
        made, history = fine_tune(
            opened.model,
            explainer,
            LIES[lie],
            train,
            recipe,
            held_out=held_out,
            checkpoint=FileCheckpoint(self.run.path(f"scratch/{name}.pt")),
        )
        found = history.handed_out
        lost = history.clean["accuracy"] - found["accuracy"]
        price = {"lie": lie, "through": repr(explainer), "seed": seed, "fsr": found["fsr"], "lost": lost}
        write_json(self.run.path(f"lies/{name}.json"), {**price, "step": history.best})
        # whole only when its record is there
        self.run.write_tensors(f"lies/{name}.safetensors", made.network.state_dict())
        self.say(
            f"{opened.name} fooled through {explainer!r} ({lie}, seed {seed}): FSR {found['fsr']:.0%}, "
            f"{100 * lost:+.1f} points of accuracy lost, on {len(opened.watched)} held-out photos"
        )
