"""The rows, tests and sentences of a shift, from a table that is written down."""

import re
from statistics import NormalDist
from typing import Any

import polars as pl
import pytest

from heatproof.commands.shift.summary import answer, choose, folded, paired, shift_rows
from heatproof.report.words import measured

EXPLAINERS = ("GradCAM()", "LRP()")


def row(image: str, epsilon: float = 0.0, model: str = "net", **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "image": image,
        "model": model,
        "explainer": "GradCAM()",
        "attack": "FGSM()" if epsilon else "clean",
        "epsilon": epsilon,
        "nissim": 0.0,
        "kept": True,
        "correct": True,
        "success": False,
        "psnr": 30.0,
        "spearman": 1.0,
        "topk_intersection": 1.0,
        "center_distance": 0.0,
        "on_object": 0.8,
        "confidence": 0.9,
        "empty": False,
        "empty_clean": False,
        "object": "clean map",
    }
    return {**told, **more}


def test_empty_maps_are_counted_by_how_many_of_the_two_are_empty() -> None:
    pairs = [(True, True), (True, False), (False, True), (False, False), (False, True)]
    table = pl.DataFrame([row(str(i), 0.1, empty=now, empty_clean=was) for i, (was, now) in enumerate(pairs)])
    (found,) = shift_rows(table)
    assert (found.empty_both, found.empty_one) == (1, 3)


def test_images_that_the_attack_left_are_counted_and_said() -> None:
    """No PSNR: nothing changed. At epsilon 0 that is no wonder."""
    still = [row(str(i), level, psnr=None if i < 3 else 30.0) for level in (0.1, 0.2) for i in range(4)]
    table = pl.DataFrame([*(row(str(i), psnr=None) for i in range(4)), *still])
    found = shift_rows(table)
    assert [(line.epsilon, line.untouched) for line in found] == [(0.0, 0), (0.1, 3), (0.2, 3)]
    assert found[1].plain()["untouched"] == 3
    (said,) = [sentence for sentence in answer(table, found, []) if "left as they were" in sentence]
    assert said.startswith("net, GradCAM(), FGSM(): 3 of 4 images are left as they were at epsilon 0.1")
    moved = pl.DataFrame([row(str(i), level) for level in (0.0, 0.1) for i in range(4)])
    assert not [sentence for sentence in answer(moved, shift_rows(moved), []) if "left as they were" in sentence]


def test_holms_correction_is_the_textbooks() -> None:
    shifts = {"a": (0.10, 0.12, 0.14, 0.16, 0.18, 0.20), "b": (0.11, 0.14, 0.17, 0.20, 0.23, 0.26)}
    shifts["c"] = (0.30, 0.10, 0.40, 0.05, 0.35, 0.22)
    table = pl.DataFrame(
        [row(str(i), 0.1, model, nissim=value) for model, all_ in shifts.items() for i, value in enumerate(all_)]
    )
    found = {(test.a, test.b): test for test in paired(table)}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    # six differences of one sign: a rank sum of 0, where 6 * 7 / 4 is the mean and 6 * 7 * 13 / 24 the variance
    extreme = 2 * NormalDist().cdf(-(10.5 - 0.5) / 22.75**0.5)
    assert found["a", "b"].test.p_value == pytest.approx(extreme)
    assert found["a", "b"].test.difference == pytest.approx(-0.035)
    ordered = sorted(test.test.p_value for test in found.values())
    for test in found.values():
        steps = ordered.index(test.test.p_value)
        expected = max(min(1.0, (3 - k) * ordered[k]) for k in range(steps + 1))
        assert test.p_holm == pytest.approx(expected)
    assert found["a", "b"].p_holm == pytest.approx(3 * extreme)


def test_the_gallery_takes_the_most_and_the_least_moved_at_the_largest_epsilon() -> None:
    strong = {"a": 0.2, "b": 0.9, "c": 0.1, "d": 0.9, "e": 0.5}
    weak = dict.fromkeys(strong, 0.0) | {"c": 1.0}
    table = pl.DataFrame(
        [row(image) for image in strong]
        + [row(image, 0.1, nissim=value) for image, value in strong.items()]
        + [row(image, 0.01, nissim=value) for image, value in weak.items()]
    )
    assert choose(table, "net", 2) == (["b", "d"], ["c", "a"])
    assert choose(table, "net", 0) == ([], [])
    # an image is shown once
    assert choose(table, "net", 4) == (["b", "d", "e", "a"], ["c"])


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (0.05, "nearly the same as before"),
        (0.2, "what they show in common is more than what they do not"),
        (0.3, "what they show in common is less than what they do not"),
        (0.45, "has little to do with what they showed before"),
    ],
)
def test_the_first_sentence_says_how_far_all_maps_move_at_the_largest_epsilon(moved: float, words: str) -> None:
    table = pl.DataFrame(
        [row(str(i)) for i in range(12)]
        + [row(str(i), 2 / 255, nissim=0.01) for i in range(12)]
        + [row(str(i), 8 / 255, nissim=moved + (i - 5.5) / 1000) for i in range(12)]
    )
    said = answer(table, shift_rows(table), [])[0]
    found = next(line for line in shift_rows(table) if line.epsilon == 8 / 255).means["mod"]
    assert f"at epsilon 8/255 the heatmaps of 12 photos move by {measured(found)} on average" in said
    assert measured(found).startswith(f"{moved:.4f} [")
    assert "0 is the same map, 0.5 an unrelated one" in said
    assert said.endswith(f"{words}.")


def test_too_few_photos_have_no_interval_and_the_sentence_says_so() -> None:
    def said(photos: int) -> str:
        table = pl.DataFrame(
            [row(str(i), level, nissim=level + i / 100) for level in (0.0, 0.1) for i in range(photos)]
        )
        return answer(table, shift_rows(table), [])[0]

    assert "move by 0.12 on average" in said(5)
    assert "5 photos: too few for an interval" in said(5)
    assert "move by 0.125 [0.112, 0.138] on average" in said(6)
    assert "too few" not in said(6)


def test_maps_without_another_to_compare_with_are_left_out_of_the_first_sentence() -> None:
    table = pl.DataFrame([row(str(i), level, nissim=None if i else level) for level in (0.0, 0.1) for i in range(3)])
    assert "the heatmaps of the 1 photo with a map (3 in all) move by 0.1 on" in answer(table, shift_rows(table), [])[0]
    table = table.with_columns(nissim=pl.lit(None, pl.Float64))
    assert answer(table, shift_rows(table), [])[0].endswith("at epsilon 0.1 no photo has two maps to compare.")


def told(kept: float, changed: float, stay: int = 6) -> str:
    """The second sentence on twelve images, of which some keep their label."""
    attacked = [row(str(i), 0.1, kept=i < stay, nissim=kept if i < stay else changed) for i in range(12)]
    table = pl.DataFrame([*(row(str(i)) for i in range(12)), *attacked])
    return answer(table, shift_rows(table), [])[1]


def test_the_answer_says_whether_maps_move_under_a_label_that_stays() -> None:
    assert "stays on 6 of 12 images and the map moves there by MOD 0.3 [0.3, 0.3], against 0.4 [0.4, 0.4]" in told(
        0.3, 0.4
    )
    assert "where the label changes: the map moves although the label does not (75% as far)" in told(0.3, 0.4)
    assert "the map moves mostly with the label (25% as far)" in told(0.1, 0.4)
    assert "the label changes nowhere" in told(0.1, 0.4, stay=12)
    assert "whether the map moves where it stays cannot be told" in told(0.1, 0.4, stay=0)
    assert "it stays on 1 only, too few to say whether the map moves with the label" in told(0.3, 0.4, stay=1)
    assert "it changes on 1 only, too few to say whether the map moves with the label" in told(0.3, 0.4, stay=11)


@pytest.mark.parametrize(
    ("box", "after", "words"),
    [
        ("box", 0.78, "80% of the map's mass lies in the object's box before the attack and 78%"),
        ("box", 0.78, "it stays there"),
        ("box", 0.5, "50% of it lies elsewhere now, 30 points more than before: it has left the object"),
        ("clean map", 0.5, "50% of it lies elsewhere now, 30 points more than before (no boxes"),
        # 80% and 52%, as they are read, are 28 points apart; 79.6 and 52.4 would be 27
        ("clean map", 0.524, "80% of the map's mass lies where the clean map looks before the attack and 52% at"),
        ("clean map", 0.524, "48% of it lies elsewhere now, 28 points more than before"),
    ],
)
def test_the_answer_says_whether_the_map_leaves_the_object(box: str, after: float, words: str) -> None:
    table = pl.DataFrame(
        [row(str(i), object=box, on_object=0.796 if after == 0.524 else 0.8) for i in range(2)]
        + [row(str(i), 0.1, on_object=after, object=box, correct=bool(i)) for i in range(2)]
    )
    lines = answer(table, shift_rows(table), [])
    assert words in lines[2]
    assert "accuracy 100.0%, attacked 50.0% at 0.1" in lines[3]


def test_the_ranking_begins_with_the_least_shifted_and_says_what_can_be_told_apart() -> None:
    levels = {"late": 0.3, "early": 0.1}
    table = pl.DataFrame(
        [row(str(i), model=model) for model in levels for i in range(8)]
        + [row(str(i), 0.1, model, nissim=level + i / 100) for model, level in levels.items() for i in range(8)]
    )
    rows, tests = shift_rows(table), paired(table)
    ranking = next(line for line in answer(table, rows, tests) if "from the least to the most shifted" in line)
    assert "early (0.135) < late (0.335)" in ranking
    assert not any("by VID" in line for line in answer(table, rows, tests)), "one epsilon has no VID"
    ranking = next(line for line in answer(table, rows, []) if "from the least to the most shifted" in line)
    assert "early (0.135) ~ late (0.335)" in ranking


def test_the_ranking_by_vid_says_too_what_can_be_told_apart() -> None:
    levels = {"a": (0.10, 0.12), "b": (0.30, 0.32), "late": (0.1, 0.5)}
    table = pl.DataFrame(
        [row(str(i), model=model) for model in levels for i in range(8)]
        + [
            row(str(i), epsilon, model, nissim=level + i / 100)
            for model, known in levels.items()
            for epsilon, level in zip((0.1, 0.2), known, strict=True)
            for i in range(8)
        ]
    )
    ranking = next(line for line in answer(table, shift_rows(table), []) if "by VID" in line)
    assert "(0.010) ~ " in ranking
    assert ranking.endswith("(0.010) < late (0.200); ~ stands where the 95% intervals meet.")


def test_models_without_a_common_map_are_not_tested_against_each_other() -> None:
    table = pl.DataFrame(
        [row(str(i), 0.1, model, nissim=0.1 + i / 10) for model in ("a", "b") for i in range(6)]
        + [row(str(i), 0.1, "empty", nissim=None) for i in range(6)]
    )
    assert [(test.a, test.b) for test in paired(table)] == [("a", "b")]


def test_where_no_map_has_mass_nothing_is_said_of_the_object() -> None:
    table = pl.DataFrame([row(str(i), level, on_object=None) for level in (0.0, 0.1) for i in range(2)])
    table = table.with_columns(pl.col("on_object").cast(pl.Float64))
    told = answer(table, shift_rows(table), [])
    assert not [line for line in told if "mass" in line or "positive part" in line]
    assert any("accuracy 100.0%, attacked 100.0% at 0.1" in line for line in told)


def test_maps_without_a_positive_part_are_said_to_tell_nothing_and_not_to_stay() -> None:
    nothing: dict[str, Any] = {"nissim": None, "on_object": None, "empty": True, "empty_clean": True}
    table = pl.DataFrame([row(str(i), level, **nothing) for level in (0.0, 0.1) for i in range(12)])
    said = answer(table, shift_rows(table), [])
    assert said[0] == (
        "net, GradCAM(), FGSM(): at epsilon 0.1 12 of 12 maps have no positive part, and had none before the attack: "
        "nothing can be said of whether they move."
    )
    assert not [line for line in said if "MOD" in line or "\N{EN DASH}" in line or "same" in line]
    assert shift_rows(table)[1].means["mod"].value is None
    assert choose(table, "net", 3) == ([], [])


def test_maps_that_the_attack_emptied_are_counted_where_no_mass_is_left() -> None:
    gone = [row(str(i), 0.1, nissim=0.4, on_object=None, empty=True) for i in range(4)]
    table = pl.DataFrame([*(row(str(i)) for i in range(4)), *gone])
    said = answer(table, shift_rows(table), [])
    assert (
        "net, GradCAM(), FGSM(): at epsilon 0.1 4 of 4 images have a map without a positive part, which is nowhere."
        in said
    )


def test_each_explainer_is_told_against_its_own_clean_maps() -> None:
    """The second explainer's maps did not leave the cells; against the first one's clean maps they would have."""
    table = pl.DataFrame(
        [
            row(str(i), level, explainer=explainer, on_object=mass)
            for explainer, mass in (("GradCAM()", 0.9), ("LRP()", 0.4))
            for level in (0.0, 0.1)
            for i in range(4)
        ]
    )
    said = [line for line in answer(table, shift_rows(table), []) if "mass" in line]
    assert "90% of the map's mass lies where the clean map looks before the attack and 90%" in said[0]
    assert "40% of the map's mass lies where the clean map looks before the attack and 40%" in said[1]
    assert all(line.endswith("it stays there.") for line in said)


def test_a_map_that_became_another_is_not_said_to_stay() -> None:
    table = pl.DataFrame([row(str(i), level, nissim=4.17 * level) for level in (0.0, 0.1) for i in range(12)])
    (said,) = [line for line in answer(table, shift_rows(table), []) if "mass" in line]
    assert said.endswith("it has not gone elsewhere, but the map is another (MOD 0.417 [0.417, 0.417]).")


def test_many_curves_begin_with_an_overview_and_have_a_paragraph_each() -> None:
    """Two models, two attacks, two explainers: one line first, then the rankings, then eight paragraphs."""
    moves = {("a", "FGSM()", "GradCAM()"): 0.05, ("b", "PGD()", "LRP()"): 0.45}
    table = pl.DataFrame(
        [row(str(i), model=model, explainer=explainer) for model in "ab" for explainer in EXPLAINERS for i in range(8)]
        + [
            row(
                str(i),
                0.1,
                model,
                attack=attack,
                explainer=explainer,
                nissim=moves.get((model, attack, explainer), 0.2),
            )
            for model in "ab"
            for attack in ("FGSM()", "PGD()")
            for explainer in EXPLAINERS
            for i in range(8)
        ]
    )
    said = answer(table, shift_rows(table), [])
    assert said[0] == (
        "8 combinations of model, attack and explainer, each at its largest budget: maps move by MOD 0.05 [0.05, 0.05] "
        "(a, GradCAM(), FGSM() at 0.1) at least and 0.45 [0.45, 0.45] (b, LRP(), PGD() at 0.1) at most."
    )
    assert len(said) == 1 + 4 + 8
    (own,) = [line for line in said if line.startswith("b, LRP(), PGD(): ")]
    assert own.count("b, LRP(), PGD()") == 1
    assert "has little to do" in own
    assert "accuracy 100.0%, attacked" in own.lower()
    # each sentence begins as one
    assert not re.search(r"\. [a-z]", own)
    assert folded(shift_rows(table)) == 8
    assert folded(shift_rows(table.filter(pl.col("model") == "a", pl.col("explainer") == "LRP()"))) == 0
