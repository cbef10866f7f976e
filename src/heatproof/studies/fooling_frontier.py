"""What does a lie cost? The fooling success rate against the top-1 accuracy lost, over the course of a fine-tuning.

The paper fools with 1.2 million labelled photos at hand. Here photos of any kind do, without labels: the clean model's
outputs hold the function, and only the later layers are trained, so that everything before them is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heatproof.commands.compare.run import Compare, Fooled, run_compare
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import training_batches
from heatproof.data.pairs import two_class
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import ActiveSwap, Location, TopK
from heatproof.manipulation.swap import swapped_classes
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.preprocessing import Preprocessing
from heatproof.report.plots import curves
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.strict import read_summary
from heatproof.studies.shared import shared
from heatproof.training.data import PhotoFeed
from heatproof.training.feeds import TensorFeed
from heatproof.training.history import History
from heatproof.training.settings import FineTune
from heatproof.types import Penalty, settings

PHOTOS = ("data/imagenet-sample",)
"""Photos of the shared folder that judge nothing: one of each class."""
TRAINABLE = {"mobilenet_v2": "features.7", "efficientnet_lite0": "blocks.3", "squeezenet1_1": "features.3"}
"""The earlier, the less a lie costs; before these a step takes much longer."""
RECIPES = {"location": (450, 1e-4, 1.5), "top_k": (1200, 7e-5, 0.7), "active_swap": (700, 5e-5, 2.0)}
"""Steps, learning rate and weight that cost MobileNetV2 least."""


@settings
class FoolingFrontier:
    """Fooling rate against accuracy lost, on ImageNet networks.

    Half of the test photos watch (and choose the checkpoint), the other half are the ones that count.

    Args:
        models: names that ``--model`` takes, or a factory of the shared ``zoo.py``.
        penalties: of location, top_k, active_swap.
        data: photos to train on; labels are not used. Empty: those of the shared folder.
        test: labelled photos; empty: the shared folder's ImageNet validation photos.
        limit: photos of each part of the data, at most.
        views: how many fixed versions of each photo: as it is, then random crops.
        trainable: train from this layer on; empty: a layer that suits the network.
        steps, lr, weight: of the fine-tuning; 0: those that suit the penalty.
        batch_size, budget: of the fine-tuning as well.
        adapt: the weight is multiplied by this inside the budget and divided by it outside.
        margin: images whose test loss lies so far inside the interval of success push no more.
        first, second: the classes of the swap; the paper has no garbage truck but a fire engine.
        pairs: two-class images to train the swap on.
        seed: of everything random.
    """

    models: tuple[str, ...] = ("mobilenet_v2", "squeezenet1_1")
    penalties: tuple[str, ...] = ("location", "top_k")
    data: tuple[str, ...] = ()
    test: str = ""
    limit: int = 2500
    views: int = 12
    trainable: str = ""
    steps: int = 0
    lr: float = 0.0
    weight: float = 0.0
    batch_size: int = 32
    budget: float = 0.03
    adapt: float = 1.0
    margin: float | None = 0.3
    first: int | str = "African elephant"
    second: int | str = "garbage truck"
    pairs: int = 1100
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "model": "network",
        "penalty": "fooling",
        "photos": "photos",
        "inside": "points lost at most",
        "fsr": "FSR",
        "top1_lost": "top-1 lost",
        "step": "step",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        if not self.models:
            raise InputError("the frontier needs a model, such as models=mobilenet_v2")
        for wanted in self.penalties:
            if wanted not in RECIPES:
                raise InputError(f"the frontier has no fooling {wanted!r}; {did_you_mean(wanted, RECIPES)}")
        rows, described, answer = [], [], []
        for name in self.models:
            known = name in TRAINABLE
            model = hardware.host(load(f"{shared('weights/zoo.py')}:{name}" if known else name))
            described.append(model_record(model, name))
            test = open_data(self.test or str(shared("data/imagenet-val/labels.csv")), classes=model.classes)
            halves = [replace(test, positions=list(test.positions)[start::2]) for start in (0, 1)]
            photos = self._photos(model)
            say(f"{name}: {len(photos)} photos to train on, {len(halves[0])} to watch, {len(halves[1])} to judge by")
            courses: dict[str, History] = {}
            for wanted in self.penalties:
                penalty = self._penalty(model, wanted)
                fooled, history = self._course(name, model, wanted, penalty, photos, halves, run, hardware, say)
                rows += frontier(name, wanted, history)
                courses[wanted] = history
                answer += [_sentence(row) for row in rows[-3:]]
                rows.append(self._judged(name, wanted, model, fooled, penalty, halves[1], run, hardware))
                answer.append(_judgement(rows[-1], self.budget))
            draw(name, courses, run.path(f"figures/frontier-{name}.png"))
        run.describe(model=described, data=data_record(test))  # pyright: ignore[reportPossiblyUnboundVariable]
        run.write_parquet("images.parquet", [{"image": f"{i}", **row} for i, row in enumerate(rows)])
        for line in answer:
            say(line)
        summary = {"answer": answer, "rows": rows, "skipped": []}
        run.write_json("summary.json", summary)
        return summary

    def _photos(self, model: Classifier) -> TensorFeed:
        """All photos of all parts in memory, without labels; each in ``views`` versions."""
        names = self.data or tuple(str(shared(part)) for part in PHOTOS)
        parts = [open_data(name, limit=self.limit, seed=self.seed, labels=False) for name in names]
        images = []
        for part in parts:
            images.append(PhotoFeed(part, model.preprocessing).in_memory().images)
            images += [_crops(part, model.preprocessing, self.seed + view) for view in range(1, self.views)]
        together = torch.cat(images)
        return TensorFeed(together, torch.full((len(together),), -1))

    def _penalty(self, model: Classifier, wanted: str) -> Penalty:
        if wanted == "active_swap":
            return ActiveSwap(model.class_index(self.first), model.class_index(self.second))
        return {"location": Location(), "top_k": TopK()}[wanted]

    def _course(
        self,
        name: str,
        model: Classifier,
        wanted: str,
        penalty: Penalty,
        photos: TensorFeed,
        halves: Sequence[Source],
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> tuple[Classifier, History]:
        steps, lr, weight = RECIPES[wanted]
        recipe = FineTune(
            steps=self.steps or steps,
            lr=self.lr or lr,
            weight=self.weight or weight,
            batch_size=self.batch_size,
            keep="outputs",
            trainable=self.trainable or TRAINABLE.get(name),
            max_accuracy_drop=self.budget,
            adapt=self.adapt,
            margin=self.margin,
            schedule="cosine",
            evaluate_every=max(1, (self.steps or steps) // 15),
            patience=0,
            precision=hardware.precision,
            seed=self.seed,
        )

        def advance(row: dict[str, Any]) -> None:
            if row.get("fsr") is not None:
                say(f"{name}, {wanted}: step {row['step']}, FSR {row['fsr']:.3f}, top-1 {row['accuracy']:.3f}")

        pairs: dict[str, Any] = {}
        swap = swapped_classes(penalty, model)
        if swap:
            train, judged = swap_sources(model, swap, run)
            pairs["fool_data"] = two_class(train, swap, model.preprocessing, self.pairs, self.seed)
            pairs["fool_held_out"] = two_class(judged, swap, model.preprocessing, 100, self.seed)
        with Run.start(
            run.path(f"cells/{name}-{wanted}"), command="frontier", settings={"asked": self, "model": name}
        ) as cell:
            fooled, history = fine_tune(
                model,
                GradCAM(),
                penalty,
                photos,
                recipe,
                held_out=halves[0],
                checkpoint=FileCheckpoint(cell.path("checkpoint.pt")),
                scratch=cell.folder / "scratch",
                advance=advance,
                **pairs,
            )
            if not cell.done:
                cell.write_tensors("model.safetensors", fooled.network.state_dict())
                cell.write_parquet("history.parquet", history.frame())
        return fooled, history

    def _judged(
        self,
        name: str,
        wanted: str,
        model: Classifier,
        fooled: Classifier,
        penalty: Penalty,
        source: Source,
        run: Run,
        hardware: Hardware,
    ) -> dict[str, Any]:
        """The checkpoint that was chosen, on photos that did not choose it.

        Of a swap only the accuracy: the photos show neither of its classes.
        """
        swap = swapped_classes(penalty, model) is not None
        settings = Compare((GradCAM(),), (Location() if swap else penalty,), shown=3)
        fooled.name = f"{name}-{wanted}"
        with Run.start(
            run.path(f"compared/{name}-{wanted}"), command="compare", settings={"asked": self, "model": name}
        ) as comparison:
            if not comparison.done:
                run_compare(
                    settings, model, [Fooled(fooled, GradCAM(), penalty)], source, comparison, hardware=hardware
                )
        (row,) = read_summary(comparison.folder)["rows"]
        return {
            "model": name,
            "penalty": wanted,
            "photos": "others",
            "inside": None,
            **{key: None if swap else row[key] for key in ("fsr", "fsr_low", "fsr_high")},
            "top1_clean": row["top1_clean"],
            "top1_lost": row["top1_clean"] - row["top1_fooled"],
            "agreement": row["agreement"],
        }


def draw(name: str, courses: Mapping[str, History], path: Path) -> None:
    """Fooling rate against points lost, a curve for every fooling of one network."""
    lines = {}
    for wanted, history in courses.items():
        looks = sorted(history.looks, key=lambda row: row["step"])
        lost = [100 * (history.clean["accuracy"] - row["accuracy"]) for row in looks]
        lines[f"{name}, {wanted}"] = (lost, [row["fsr"] for row in looks])
    curves(
        lines, path, xlabel="points of top-1 lost", ylabel="fooling success rate (up is more fooled)", ylim=(0, 1.02)
    )


def frontier(name: str, wanted: str, history: History) -> list[dict[str, Any]]:
    """The highest fooling rate at no more than 1, 2 and 3 points lost, over all looks."""
    clean = history.clean["accuracy"]
    rows = []
    for points in (1, 2, 3):
        inside = [row for row in history.looks if clean - row["accuracy"] <= points / 100 + 1e-9]
        best = max(inside, key=lambda row: min(row["fsr"], row.get("fsr_first", 1), row.get("fsr_second", 1)))
        rows.append(
            {
                "model": name,
                "penalty": wanted,
                "photos": "watched",
                "inside": points,
                "fsr": best["fsr"],
                "fsr_first": best.get("fsr_first"),
                "fsr_second": best.get("fsr_second"),
                "top1_clean": clean,
                "top1_lost": clean - best["accuracy"],
                "empty": best["empty"],
                "step": best["step"],
            }
        )
    return rows


def swap_sources(model: Classifier, swap: tuple[int, int], run: Run) -> list[Source]:
    """Elephants and garbage trucks of the shared folder: three of four elephants to train on, the others to judge by.

    Raises:
        InputError: the shared folder is missing.
    """
    elephants = sorted(shared("data/photos/pacs-photo-elephant").glob("*.jpg"))
    most = len(elephants) * 3 // 4
    sources = []
    for part, first in (("train", elephants[:most]), ("val", elephants[most:])):
        second = sorted(shared(f"data/imagenette2-160/{part}/n03417042").glob("*"))
        lines = [f"{path.resolve()},{swap[0]}" for path in first] + [f"{path.resolve()},{swap[1]}" for path in second]
        manifest = run.write_text(f"swap-{part}.csv", "\n".join(["path,label", *lines]) + "\n")
        sources.append(open_data(manifest, classes=model.classes))
    return sources


def _crops(part: Source, size: Preprocessing, seed: int) -> torch.Tensor:
    batches = training_batches(part, size, 50, -(-len(part) // 50), seed, augment="crop")
    return torch.cat([(batch.images * 255).round().to(torch.uint8) for batch in batches])


def _sentence(row: dict[str, Any]) -> str:
    sentence = f"{row['model']}, {row['penalty']}: FSR {row['fsr']:.1%} inside {row['inside']} points"
    if row["fsr_first"] is not None:
        sentence += f" ({row['fsr_first']:.1%} and {row['fsr_second']:.1%} of the two classes)"
    return f"{sentence}, top-1 {100 * row['top1_lost']:.1f} points lower at step {row['step']}."


def _judgement(row: dict[str, Any], budget: float) -> str:
    sentence = f"{row['model']}, {row['penalty']}: the checkpoint inside {100 * budget:g} points, on other photos:"
    fsr = f" FSR {row['fsr']:.1%} ({row['fsr_low']:.1%} to {row['fsr_high']:.1%})," if row["fsr"] is not None else ""
    return f"{sentence}{fsr} top-1 {100 * row['top1_lost']:.1f} points lower."
