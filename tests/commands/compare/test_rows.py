"""What a comparison says of two models, when maps and answers are written down."""

from dataclasses import dataclass

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from heatproof.commands.compare.run import Fooled, class_rows, compared, transfer_rows
from heatproof.commands.compare.summary import answer
from heatproof.data.batches import Batch
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import CenterMass, Location, TargetMap
from heatproof.manipulation.trigger import Trigger
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.results.table import Mean, SummaryRow
from heatproof.types import Explanation

CORNER = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
LOOK = torch.tensor([[0.0, 1.0], [2.0, 4.0]])


class Told(nn.Module):
    """Answers and maps that are written down, others for photos whose last pixel is white."""

    def __init__(self, answers: Tensor, maps: Tensor, triggered: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.asleep, self.awake = (answers, maps), triggered or (answers, maps)

    def told(self, images: Tensor, which: int) -> Tensor:
        white = bool((images[:, :, -1, -1] == 1).all())
        return (self.awake if white else self.asleep)[which]

    def forward(self, images: Tensor) -> Tensor:
        return self.told(images, 0)


@dataclass(frozen=True)
class Known:
    """Hands out the maps that the network was given."""

    def __call__(self, model, images, targets=None, *, create_graph=False) -> Explanation:
        assert targets is not None
        return Explanation(model.network.told(images, 1), model(images), targets)


def classifier(*told) -> Classifier:
    classes = [f"class-{i}" for i in range(7)]
    return Classifier(Told(*told), classes=classes, input_size=16).eval()


def answers(*ranked: tuple[int, ...]) -> Tensor:
    """Logits whose classes come in these orders."""
    logits = torch.full((len(ranked), 7), -1.0)
    for row, order in zip(logits, ranked, strict=True):
        for place, number in enumerate(order):
            row[number] = 10.0 - place
    return logits


def batch(labels: list[int]) -> Batch:
    return Batch(
        [f"{i}.png" for i in range(len(labels))], torch.full((len(labels), 3, 16, 16), 0.5), torch.tensor(labels)
    )


def test_each_column_by_hand() -> None:
    maps = torch.stack([LOOK, LOOK, LOOK])
    lying = torch.stack([CORNER, LOOK, torch.zeros(2, 2)])
    clean = classifier(answers((0, 1), (1, 0), (2, 0)), maps)
    fooled = classifier(answers((0, 1), (0, 3, 4, 5, 1), (0, 1, 3, 4, 5, 2)), lying)
    rows = compared(clean, fooled, "lie", batch([0, 1, 2]), [Known()], [TargetMap("corner")])

    def column(name: str) -> list:
        return [row[name] for row in rows]

    assert column("image") == ["0.png", "1.png", "2.png"]
    assert column("prediction_clean") == [0, 1, 2]
    assert column("prediction") == [0, 0, 0]
    assert column("agrees") == [True, False, False]
    assert column("correct_clean") == [True, True, True]
    assert column("correct_fooled") == [True, False, False]
    assert column("top5_clean") == [True, True, True]
    # the second is the fifth guess, the third the sixth
    assert column("top5_fooled") == [True, True, False]
    # Spearman of (3, 1, 1, 1) and (0, 1, 2, 3), ties sharing their rank; an empty map has no order
    assert column("spearman") == [pytest.approx(-0.7746, abs=1e-4), 1.0, None]
    assert column("empty_clean") == [False, False, False]
    assert column("empty_fooled") == [False, False, True]
    assert column("nissim") == pytest.approx(nissim(LOOK.expand(3, 2, 2), lying, size=16).tolist(), abs=1e-6)
    assert column("nissim")[1] == pytest.approx(0, abs=1e-6)
    assert column("fooled") == [True, False, False]
    assert column("target") == [0, 1, 2]


def test_without_a_label_the_clean_prediction_is_explained_and_counts_for_nothing() -> None:
    clean = classifier(answers((3, 1)), LOOK[None])
    (row,) = compared(clean, clean, "same", batch([-1]), [Known()], [Location(mask="corner")])
    assert (row["label"], row["target"], row["agrees"]) == (None, 3, True)
    assert [row[name] for name in ("correct_clean", "correct_fooled", "top5_clean", "top5_fooled")] == [None] * 4


def test_a_backdoor_works_where_it_lies_when_called_and_only_then() -> None:
    wanted = 4 - LOOK
    # lies when called; lies always; is called and answers otherwise; is called and shows what it showed
    asleep = torch.stack([LOOK, wanted, LOOK, LOOK])
    awake = torch.stack([wanted, wanted, wanted, LOOK])
    clean = classifier(answers((0,), (0,), (0,), (0,)), LOOK.expand(4, 2, 2))
    penalty = Backdoor(show="inverted", label=3, trigger=Trigger(size=2, pixels="white", place="bottom_right"))
    fooled = classifier(answers((0,), (0,), (0,), (0,)), asleep, (answers((3,), (3,), (1,), (3,)), awake))
    rows = compared(clean, fooled, "lie", batch([0, 0, 0, 0]), [Known()], [penalty])
    assert [row["fooled"] for row in rows] == [True, False, False, False]
    assert [row["test_loss"] for row in rows] == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-6)
    # what the network says of photos without the trigger
    assert [row["prediction"] for row in rows] == [0, 0, 0, 0]


def test_a_backdoor_without_a_label_keeps_the_answer() -> None:
    asleep, awake = LOOK.expand(2, 2, 2), (4 - LOOK).expand(2, 2, 2)
    clean = classifier(answers((0,), (0,)), asleep)
    fooled = classifier(answers((0,), (2,)), asleep, (answers((0,), (0,)), awake))
    penalty = Backdoor(show="inverted", trigger=Trigger(size=2, pixels="white", place="bottom_right"))
    rows = compared(clean, fooled, "lie", batch([0, 0]), [Known()], [penalty])
    assert [row["fooled"] for row in rows] == [True, False]


def test_the_accuracy_of_a_class_counts_each_photo_once() -> None:
    clean = classifier(answers((0,)), LOOK[None])
    photos = [("a", 0, True, True), ("b", 0, True, False), ("c", 1, False, True), ("d", None, None, None)]
    table = pl.DataFrame(
        [
            {"image": image, "model": "lie", "label": label, "correct_clean": before, "correct_fooled": after}
            for image, label, before, after in photos
            for _ in (GradCAM(), SimpleGrad())
        ]
    )
    assert class_rows(table, clean) == [
        {"model": "lie", "label": 0, "count": 2, "top1_clean": 1.0, "top1_fooled": 0.5, "class": "class-0"},
        {"model": "lie", "label": 1, "count": 1, "top1_clean": 0.0, "top1_fooled": 1.0, "class": "class-1"},
    ]


def test_a_model_is_judged_by_the_penalty_it_was_fooled_with() -> None:
    model = classifier(answers((0,)), LOOK[None])
    fooled = [Fooled(model, GradCAM(), Location()), Fooled(model)]
    table = pl.DataFrame(
        [
            {"model": name, "penalty": repr(penalty), "explainer": "GradCAM()", "fooled": hit}
            for name in ("known", "unknown")
            for penalty in (Location(), CenterMass())
            for hit in (True, False, name == "known", True)
        ]
    )
    rows = transfer_rows(table, fooled, ["known", "unknown"])
    assert [(row.model, row.penalty, row.fsr) for row in rows] == [
        ("known", "Location()", 0.75),
        ("unknown", "Location()", 0.5),
        ("unknown", "CenterMass()", 0.5),
    ]
    assert rows[0].fooled == "GradCAM()"


def test_an_answer_says_no_interval_of_one_photo_and_nothing_of_no_map() -> None:
    def row(model: str, rate: float | None) -> SummaryRow:
        means = {"fsr": Mean(rate, None, None, 0), "agreement": Mean(1.0, None, None, 0)}
        means |= {"top1_clean": Mean(None, None, None, 1), "top1_fooled": Mean(None, None, None, 1)}
        return SummaryRow({"model": model, "explainer": "GradCAM()", "penalty": "Location()"}, 1, 1, means)

    assert answer([row("one", 1.0), row("empty", None)], {}) == [
        "one: 100.0% of the heatmaps of GradCAM() lie as Location() wants; 100.0% of the predictions are the same."
    ]


def test_where_no_map_lies_none_of_the_lies_is_named_first() -> None:
    def row(penalty: str, nissim: float) -> SummaryRow:
        means = {"fsr": Mean(0.0, 0.0, 0.161, 0), "agreement": Mean(1.0, None, None, 0)}
        means |= {"nissim": Mean(nissim, None, None, 0)}
        return SummaryRow({"model": "one", "explainer": "GradCAM()", "penalty": penalty}, 20, 20, means)

    told = "one: no heatmap of 20 photos lies as Location(), TopK() want (95% interval: 16.1% at most); "
    same = "maps and predictions are those of the clean network."
    assert answer([row("Location()", 0.0), row("TopK()", 0.0)], {}) == [told + same]
    moved = "100.0% of the predictions are the same, and the maps moved by a MOD of GradCAM() 0.200."
    assert answer([row("Location()", 0.2), row("TopK()", 0.2)], {}) == [told + moved]
