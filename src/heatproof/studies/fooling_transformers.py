"""Which explanation of a vision transformer is fooled most easily? Heo et al.'s foolings of a small ViT.

One network is trained, then fooled once through each explainer by each penalty, with the same photos, steps and
learning rate. Half of the test photos choose the checkpoint and hold the budget; the other half judges.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from heatproof.commands.compare.measure import SORT, compared
from heatproof.commands.compare.summary import METRICS
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.sources import Source, limited, open_data, part_source
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.attention import Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import CenterMass, Location, TopK
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.report.figures import Panel, gallery
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.table import summarise
from heatproof.studies import small_networks, small_transformers
from heatproof.studies.scene_training import train_on_scenes
from heatproof.studies.shared import named
from heatproof.training.data import feed_photos
from heatproof.training.feeds import Feed
from heatproof.training.settings import FineTune
from heatproof.types import Explainer, Images, Penalty, is_signed, settings

EXPLAINERS: Mapping[str, Explainer] = {
    "gradcam": GradCAM(),
    "chefer": Chefer(),
    "attnlrp": LRP("default", "attnlrp"),
    "cp_lrp": LRP("default", "cp_lrp"),
}
"""Maps on the grid of tokens, of as many cells each: 8x8 of a photo of 32x32."""
PENALTIES: Mapping[str, Penalty] = {"location": Location(), "top_k": TopK(), "center_mass": CenterMass()}
WEIGHTS: Mapping[str, float] = {"location": 10.0, "top_k": 3.0, "center_mass": 1.0}
"""How much each penalty counts beside the function; the same for every explainer."""


@settings
class FoolingTransformers:
    """Explainer against penalty: fooling success rate and accuracy on photos that chose nothing.

    Args:
        model: as ``--model`` takes it; empty: :func:`~heatproof.studies.small_transformers.vit` is trained on ``data``.
        data: labelled photos to train and to fool on; ``shared:`` lies in the shared folder.
        test: labelled photos; half of them choose, the other half judges.
        explainers: of :data:`EXPLAINERS`.
        penalties: of :data:`PENALTIES`.
        epochs: of the network's training.
        photos: so many to fool on.
        steps, batch_size, lr: of each fooling.
        weight: so many times :data:`WEIGHTS`.
        margin: a photo that is fooled by this share of the bound pushes no more; 0: every photo always does.
        budget: accuracy that a fooling may cost, a share, by the half that chooses.
        limit: photos of each half.
        seed: of everything random.
    """

    model: str = ""
    data: str = "shared:data/cifar10/train-50000.parquet"
    test: str = "shared:data/cifar10/test"
    explainers: tuple[str, ...] = ("gradcam", "chefer", "attnlrp")
    penalties: tuple[str, ...] = tuple(PENALTIES)
    epochs: int = 16
    photos: int = 4000
    steps: int = 150
    batch_size: int = 32
    lr: float = 3e-4
    weight: float = 1.0
    margin: float = 0.0
    budget: float = 0.02
    limit: int = 500
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "through": "fooled through",
        "lie": "penalty",
        "fsr": "FSR",
        "fsr_clean": "FSR of the honest network",
        "top1_clean": "top-1",
        "top1_fooled": "top-1 fooled",
        "agreement": "agreement",
        "spearman": "rank correlation",
        "step": "step",
    }
    presets = {  # noqa: RUF012
        "demo": {"data": "demo/train", "test": "demo", "photos": 64, "steps": 4, "batch_size": 8, "limit": 24},
    }

    def __post_init__(self) -> None:
        for given, known in ((self.explainers, EXPLAINERS), (self.penalties, PENALTIES)):
            if not given:
                raise InputError(f"the study needs at least one of {', '.join(known)}")
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        model = hardware.host(load(self._model(run, say)))
        source = open_photos(model, named(self.data), limit=self.photos, seed=self.seed)
        # the halves are the same for every cell
        halves = part_source(open_photos(model, named(self.test)), 0.5, 0)
        watched, judged = (limited(half, self.limit) for half in halves)
        run.describe(model=[model_record(model)], data={**data_record(source), "held_out": data_record(judged)})
        train, held_out = (feed_photos(photos, model.preprocessing) for photos in (source, watched))
        steps = dict[tuple[str, str], int]()
        shown = _first_named(model, judged, hardware)
        panels = [[_panel(model, EXPLAINERS[through], shown)] for through in self.explainers]
        for row, through in enumerate(self.explainers):
            for lie in self.penalties:
                fooled, steps[through, lie] = self._fooled(model, through, lie, train, held_out, run)
                panels[row].append(_panel(fooled, EXPLAINERS[through], shown))
                self._judge(f"{through}-{lie}", model, fooled, through, lie, judged, run, hardware)
                say(f"{through}, {lie}: judged, the checkpoint of step {steps[through, lie]}")
        rows = self._rows(run, steps)
        columns = ["honest network", *(f"fooled by {lie}" for lie in self.penalties)]
        gallery(panels, run.path("figures/maps.png"), rows=self.explainers, columns=columns, title=model.name)
        answer = answers(rows)
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": [*source.skipped, *watched.skipped, *judged.skipped]}
        run.write_json("summary.json", summary)
        return summary

    def _model(self, run: Run, say: Callable[[str], None]) -> str:
        """The network by name, trained where none is given."""
        if self.model:
            return named(self.model, "model")
        scenes = self.data.startswith("demo")
        name = "vit_scenes" if scenes else "vit"
        file = run.path(f"models/{name}.safetensors")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            if scenes:
                train_on_scenes(small_transformers.vit_scenes, file, steps=self.steps, seed=self.seed, say=say)
            else:
                photos = open_data(named(self.data), classes=small_networks.CLASSES)
                feed = feed_photos(photos, small_transformers.SIZE)
                small_transformers.train_on_photos(
                    small_transformers.vit, file, feed, epochs=self.epochs, seed=self.seed, say=say
                )
        return f"{Path(small_transformers.__file__)}:{name}@{file.resolve()}"

    def _fooled(
        self, model: Classifier, through: str, lie: str, train: Feed, held_out: Feed, run: Run
    ) -> tuple[Classifier, int]:
        """The network fooled through one explainer by one penalty, and the step that was chosen."""
        recipe = FineTune(
            steps=self.steps,
            lr=self.lr,
            weight=self.weight * WEIGHTS[lie],
            batch_size=self.batch_size,
            keep="outputs",
            margin=self.margin or None,
            max_accuracy_drop=self.budget,
            schedule="cosine",
            evaluate_every=max(1, self.steps // 5),
            patience=0,
            seed=self.seed,
        )
        fooled, history = fine_tune(
            model,
            EXPLAINERS[through],
            PENALTIES[lie],
            train,
            recipe,
            held_out=held_out,
            checkpoint=FileCheckpoint(run.path(f"scratch/{through}-{lie}.pt")),
        )
        fooled.name = f"{through}-{lie}"
        return fooled, history.best

    def _judge(
        self,
        part: str,
        model: Classifier,
        fooled: Classifier,
        through: str,
        lie: str,
        judged: Source,
        run: Run,
        hardware: Hardware,
    ) -> None:
        """Through the explainer that was fooled; the honest network stands beside, against itself."""
        if run.has_part(part):
            return
        rows: list[dict[str, Any]] = []
        for batch in batches(judged, model.preprocessing, 64):
            asked = [EXPLAINERS[through]], [PENALTIES[lie]], hardware
            honest = compared(model, model, "honest", batch, *asked)
            for one, other in zip(compared(model, fooled, part, batch, *asked), honest, strict=True):
                rows.append({**one, "fooled_clean": other["fooled"], "through": through, "lie": lie})
        run.append_rows(part, rows)

    def _rows(self, run: Run, steps: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
        """A row per explainer and penalty."""
        names = {**METRICS, "fooled_clean": "fsr_clean"}
        found = [row.plain() for row in summarise(run.merge(SORT), ["through", "lie"], names)]
        order = {cell: place for place, cell in enumerate(steps)}
        rows = [{**row, "step": steps[row["through"], row["lie"]]} for row in found]
        return sorted(rows, key=lambda row: order[row["through"], row["lie"]])


def _first_named(model: Classifier, source: Source, hardware: Hardware) -> Images:
    """The first photo that the honest network names rightly; the very first where there is none."""
    batch = next(iter(batches(source, model.preprocessing, 64)))
    images = hardware.bring(batch.images)
    with torch.no_grad():
        right = model(images).argmax(1) == batch.labels.to(images.device)
    return images[int(right.int().argmax())][None]


def _panel(model: Classifier, explainer: Explainer, images: Images) -> Panel:
    """The map of the class that the network names, over the photo."""
    found = explainer(model, images)
    named = int(found.targets[0])
    return Panel(
        photo=images[0].permute(1, 2, 0).cpu().numpy(),
        heatmap=found.heatmaps[0].float().cpu().numpy(),
        signed=is_signed(explainer),
        caption=f"{model.class_name(named)} {float(found.logits[0].softmax(0)[named]):.0%}",
    )


def points_lower(share: float) -> str:
    """How much accuracy went, in words.

    >>> points_lower(0.0104), points_lower(-0.002), points_lower(0.0)
    ('top-1 1.0 points lower', 'top-1 0.2 points higher', 'top-1 as before')
    """
    points = round(100 * share, 1)
    if not points:
        return "top-1 as before"
    return f"top-1 {abs(points):.1f} points {'lower' if points > 0 else 'higher'}"


def _price(row: Mapping[str, Any]) -> str:
    if row.get("step") == 0:
        return "no step inside the budget fooled more than the honest network does"
    return points_lower(row["top1_clean"] - row["top1_fooled"])


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Per penalty which explainer is fooled most often; all together in the last sentence."""
    sentences: list[str] = []
    for lie in dict.fromkeys(row["lie"] for row in rows):
        of = sorted((row for row in rows if row["lie"] == lie), key=lambda row: row["fsr"], reverse=True)
        said = ", ".join(
            f"{row['through']} {row['fsr']:.1%} ({row['fsr_low']:.1%} to {row['fsr_high']:.1%}; honest "
            f"{row['fsr_clean']:.1%}; {_price(row)})"
            for row in of
        )
        sentences.append(f"{lie}: fooled through {said}.")
    means = {
        through: sum(row["fsr"] - row["fsr_clean"] for row in rows if row["through"] == through)
        / sum(row["through"] == through for row in rows)
        for through in dict.fromkeys(row["through"] for row in rows)
    }
    most = max(means, key=means.__getitem__)
    sentences.append(f"Fooled most easily, over the honest network and as a mean over the penalties: {most}.")
    return sentences
