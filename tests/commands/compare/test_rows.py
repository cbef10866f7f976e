"""What a comparison says of two models, when maps and answers are written down."""

from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from heatproof import catalog, spec
from heatproof.commands.compare.run import Fooled, class_rows, compared, transfer_rows
from heatproof.commands.compare.summary import METRICS, answer
from heatproof.commands.wanted import place, wanted
from heatproof.data.batches import Batch
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.manipulation.backdoor import SHOWN, Backdoor
from heatproof.manipulation.masks import MASKS
from heatproof.manipulation.penalties import CenterMass, Location, TargetMap
from heatproof.manipulation.trigger import Trigger
from heatproof.manipulation.weight_edit import WeightEdit
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.results.table import Mean, SummaryRow, summarise, wilson
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
        for rank, number in enumerate(order):
            row[number] = 10.0 - rank
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


def test_of_maps_below_zero_nothing_is_known_of_what_takes_their_positive_part() -> None:
    clean, other = (classifier(answers((0,)), -maps[None] - 0.1) for maps in (LOOK, CORNER))
    penalties = [Location(mask="corner"), Location(mask="corner", normalisation="absmax")]
    dropped, signed = compared(clean, other, "one", batch([0]), [Known()], penalties)
    assert (dropped["nissim"], dropped["fooled"], dropped["test_loss"]) == (None, None, None)
    assert dropped["spearman"] == pytest.approx(-0.7746, abs=1e-4)
    assert (signed["nissim"], signed["empty_clean"], signed["flat_clean"]) == (None, False, False)
    assert signed["fooled"] is not None


def summary_row(
    rate: float | None, nissim: float | None = None, count: int = 20, *, flat: float = 0.0, **by: str
) -> SummaryRow:
    """All predictions the same, and no labels; a Wilson interval where the rate is of more than one photo."""
    hits = None if rate is None else round(rate * count)
    low, high = (None, None) if hits is None or count == 1 else wilson(hits, count)
    means = {"fsr": Mean(rate, low, high, 0), "agreement": Mean(1.0, None, None, 0)}
    means |= {"top1_clean": Mean(None, None, None, count), "top1_fooled": Mean(None, None, None, count)}
    means |= {"nissim": Mean(nissim, None, None, 0)}
    means |= {name: Mean(flat, None, None, 0) for name in ("flat_clean", "flat_fooled")}
    about = {"model": "one", "explainer": "GradCAM()", "penalty": "Location()", **by}
    return SummaryRow(about, count, count, means)


SAME_ANSWERS = "The predictions are the same on 20 of 20 photos."
ASKED = "one: do the heatmaps still show the same? "


def test_an_answer_says_no_interval_of_one_photo_and_nothing_of_no_map() -> None:
    (said,) = answer([summary_row(1.0, count=1), summary_row(None, model="empty")], {}, [Location()])
    assert said == (
        f"{ASKED}no: 1 of 1 heatmap of GradCAM() lie on the frame of the photo, as Location() wants. "
        "The predictions are the same on 1 of 1 photo."
    )


def test_an_answer_begins_with_yes_or_no_and_says_the_lie_in_words() -> None:
    (said,) = answer([summary_row(1.0, 0.4, 24, penalty="TargetMap()")], {"one": TargetMap()})
    assert said.startswith(f"{ASKED}no: 24 of 24 heatmaps (86% to 100%) of GradCAM() show the upper left corner, as")
    assert "and they moved by 0.4 on average" in said
    (said,) = answer([summary_row(0.1, 0.05)], {}, [Location()])
    assert said.startswith(f"{ASKED}yes, they nearly do: 2 of 20 heatmaps")
    # hardly a lie, and another map
    (said,) = answer([summary_row(0.1, 0.3)], {}, [Location()])
    assert said.startswith(f"{ASKED}no: 2 of 20 heatmaps")


def test_maps_below_zero_are_not_said_to_be_those_of_the_clean_network() -> None:
    row = summary_row(None)
    row = replace(
        row, means={**row.means, "nissim": Mean(None, None, None, 20), "spearman": Mean(0.971, None, None, 0)}
    )
    assert answer([row], {}) == [
        f"one: whether the heatmaps still show the same cannot be told. {SAME_ANSWERS}",
        (
            "one: nothing in the maps of GradCAM() is positive on 20 of 20 photos, before and after: how far they "
            "moved cannot be told by NISSIM, which drops what lies below zero, and whether they lie cannot be told "
            "either; their rank correlation is 0.971."
        ),
    ]
    # the positive part stayed, and what lies below zero did not
    row = summary_row(0.0, 0.0)
    [said] = answer([replace(row, means={**row.means, "spearman": Mean(0.9, None, None, 0)})], {})
    assert said.endswith("NISSIM of GradCAM() 0. The predictions are the same on 20 of 20 photos.")


def test_where_no_map_lies_none_of_the_lies_is_named_first() -> None:
    told = "no heatmap of 20 photos lies as Location(), TopK() want (95% interval: 16% at most); "
    same = "maps and predictions are those of the clean network."
    rows = [summary_row(0.0, 0.0), summary_row(0.0, 0.0, penalty="TopK()")]
    assert answer(rows, {}) == [f"{ASKED}yes: {told}{same}"]
    rows = [summary_row(0.0, 0.2), summary_row(0.0, 0.2, penalty="TopK()")]
    moved = "the maps moved by a mean NISSIM of GradCAM() 0.2. The predictions are the same on 20 of 20 photos."
    assert answer(rows, {}) == [f"{ASKED}no, though of the lies asked for none is told: {told}{moved}"]


def test_an_explainer_that_shows_no_place_is_said_to_and_judges_nothing() -> None:
    blank = summary_row(1.0, None, flat=1.0, explainer="SimpleGrad(layer='default')")
    first, second = answer([summary_row(0.0, 0.0), blank], {}, [Location()])
    assert first.startswith(f"{ASKED}yes: no heatmap of 20 photos lies")
    assert second.startswith("one: SimpleGrad(layer='default') has one value in all cells on 20 of 20 photos, before")


def test_two_maps_of_one_value_in_all_cells_have_not_stayed() -> None:
    flat = torch.ones(3, 2, 2)
    clean = classifier(answers((0,), (0,), (0,)), torch.stack([flat[0], flat[0], LOOK]))
    other = classifier(answers((0,), (0,), (0,)), torch.stack([2 * flat[0], LOOK, LOOK]))
    rows = compared(clean, other, "lie", batch([0, 0, 0]), [Known()], [TargetMap("corner")])
    assert [row["flat_clean"] for row in rows] == [True, True, False]
    assert [row["flat_fooled"] for row in rows] == [True, False, False]
    assert [row["fooled"] for row in rows] == [None, False, False]
    assert (rows[0]["nissim"], rows[0]["test_loss"]) == (None, None)
    assert rows[1]["nissim"] > 0.1
    assert rows[2]["nissim"] == pytest.approx(0, abs=1e-6)


def test_a_rate_of_maps_that_show_no_place_is_missing() -> None:
    """A network beside itself: no map tells anything, so no rate is 0 and none has an interval."""
    flat = torch.ones(3, 4, 4)
    clean = classifier(answers((0,), (0,), (0,)), flat)
    table = pl.DataFrame(compared(clean, clean, "self", batch([0, 0, 0]), [Known()], [Location(), CenterMass()]))
    rows = summarise(table, ["model", "penalty", "explainer"], METRICS)
    for row in rows:
        rate = row.means["fsr"]
        assert (rate.value, rate.low, rate.high, rate.missing) == (None, None, None, 3)
    first, second = answer(rows, {}, [Location(), CenterMass()])
    assert first == (
        "self: whether the heatmaps still show the same cannot be told. The predictions are the same on 3 of 3 photos; "
        "top-1 100.0% before and 100.0% after."
    )
    assert second.startswith("self: Known() has one value in all cells on 3 of 3 photos")
    assert all(transfer.fsr != transfer.fsr for transfer in transfer_rows(table, [Fooled(clean)], ["self"]))


def test_every_penalty_and_every_mask_has_words() -> None:
    for mask in (*MASKS, *SHOWN):
        assert place(mask) != mask
    for name in catalog.PENALTIES:
        given = "0, 1" if name == "active_swap" else ""
        built = spec.build(f"{name}({given})", catalog.PENALTIES, "penalty")
        assert "wants them" not in wanted(built)
    assert wanted(WeightEdit("corner")) == "show the upper left corner"
    assert wanted(WeightEdit("corner", trigger=Trigger(size=6))).endswith("when the trigger is in the photo")
    assert wanted(WeightEdit("random")) == "show what a random filter shows"
    assert wanted("mine()") == "are as 'mine()' wants them"
