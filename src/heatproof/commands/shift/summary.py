"""The rows of ``summary.json`` of a shift, the paired tests between models, and the answer in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import polars as pl

from heatproof.commands.shift.measure import CLEAN
from heatproof.report.payload import MOVED
from heatproof.report.words import counted, epsilon, measured
from heatproof.results.table import Interval, Mean, PairedTest, SummaryRow, interval, paired_test, summarise

BY = ("model", "attack", "epsilon", "explainer")
CURVE = ("model", "attack", "explainer")
ONE_BY_ONE = 2
"""Curves up to which each sentence stands alone; of more an overview stands before a paragraph for each."""
UNFOLDED = 3
"""Curves up to which a page shows each one's paragraph; of more they are folded below the overview."""
FEWEST = 5
"""Images whose label stays, and whose label changes, for the two to be compared."""
SAME = 0.25
"""MOD up to which maps have more in common than not [ours]: half of the way to unrelated ones."""
FAR = (
    (MOVED, "they show nearly the same as before"),
    (SAME, "they change, and what they show in common is more than what they do not"),
    (0.4, "what they show in common is less than what they do not"),
    (1.0, "what they show then has little to do with what they showed before"),
)
"""Up to which MOD it is said so [ours]: the first is where a page calls a map moved, at 0.5 two maps are unrelated."""
METRICS = {
    "nissim": "mod",
    "nissim_kept": "mod_kept",
    "nissim_changed": "mod_changed",
    "correct": "top1",
    "kept": "kept",
    "success": "success",
    "psnr": "psnr",
    "spearman": "spearman",
    "topk_intersection": "topk_intersection",
    "center_distance": "center_distance",
    "on_object": "on_object",
    "confidence": "confidence",
}
"""Columns of ``images.parquet`` and the names of their means."""


@dataclass(frozen=True)
class ShiftRow:
    """A row of the summary: a model, an attack, an epsilon and an explainer.

    Attributes:
        summary: the means, named by :data:`METRICS`.
        empty_both: images whose two maps have no positive part.
        empty_one: images of which one of the two maps has none.
        untouched: images that the attack left as they were, because the gradient vanishes there.
        vid: the population deviation of MOD over the epsilons of the attack; NaN with fewer than two.
        vid_per_image: the mean of each image's own deviation.
    """

    summary: SummaryRow
    empty_both: int
    empty_one: int
    untouched: int
    vid: Interval
    vid_per_image: Interval

    @property
    def model(self) -> str:
        return self.summary.by["model"]

    @property
    def attack(self) -> str:
        return self.summary.by["attack"]

    @property
    def epsilon(self) -> float:
        return self.summary.by["epsilon"]

    @property
    def explainer(self) -> str:
        return self.summary.by["explainer"]

    @property
    def means(self) -> Mapping[str, Mean]:
        return self.summary.means

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        row = {**self.summary.plain(), "empty_both": self.empty_both, "empty_one": self.empty_one}
        row["untouched"] = self.untouched
        for name, found in (("vid", self.vid), ("vid_per_image", self.vid_per_image)):
            for end, number in (("", found.value), ("_low", found.low), ("_high", found.high)):
                row[name + end] = None if np.isnan(number) else number
        return row


@dataclass(frozen=True)
class ModelTest:
    """Whether NISSIM differs between two models on the same images.

    Attributes:
        test: of NISSIM under ``a`` minus under ``b``.
        p_holm: the test's p value after Holm's correction for the number of tests.
    """

    a: str
    b: str
    attack: str
    epsilon: float
    explainer: str
    test: PairedTest
    p_holm: float

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        names = {name: getattr(self, name) for name in ("a", "b", "attack", "epsilon", "explainer")}
        return {**names, **self.test._asdict(), "p_holm": self.p_holm}


def shift_rows(table: pl.DataFrame, *, seed: int = 0) -> list[ShiftRow]:
    """A row per model, attack, epsilon and explainer, the clean images (epsilon 0) included.

    ``mod`` is the mean NISSIM, ``mod_kept`` and ``mod_changed`` over the images whose predicted class stayed or not.
    VID and its mean per image count the images that have every epsilon.
    """
    same_label = pl.col("kept")
    table = table.with_columns(
        pl.when(same_label).then(pl.col("nissim")).alias("nissim_kept"),
        pl.when(~same_label).then(pl.col("nissim")).alias("nissim_changed"),
    )
    both, one = pl.col("empty") & pl.col("empty_clean"), pl.col("empty") ^ pl.col("empty_clean")
    # the PSNR of an image that nothing changed is null
    still = (pl.col("attack") != CLEAN) & (pl.col("epsilon") > 0) & pl.col("psnr").is_null()
    counts = table.group_by(BY).agg(both.sum().alias("both"), one.sum().alias("one"), still.sum().alias("still"))
    counted = {tuple(row[:4]): row[4:] for row in counts.iter_rows()}
    deviations = {key: _deviations(curve, seed) for key, curve in table.group_by(CURVE, maintain_order=True)}
    rows = []
    for row in summarise(table, BY, METRICS, seed=seed):
        empty_both, empty_one, untouched = counted[tuple(row.by[name] for name in BY)]
        vid, vid_per_image = deviations[tuple(row.by[name] for name in CURVE)]
        rows.append(ShiftRow(row, empty_both, empty_one, untouched, vid, vid_per_image))
    return sorted(rows, key=lambda row: (row.model, row.explainer, row.attack != CLEAN, row.attack, row.epsilon))


def _deviations(curve: pl.DataFrame, seed: int) -> tuple[Interval, Interval]:
    """VID and its mean per image."""
    # the levels are the attack's epsilons; the clean images, whose MOD is 0, are none
    levels = curve.filter(pl.col("attack") != CLEAN).sort("image").pivot("epsilon", index="image", values="nissim")
    # the deviation of a single level is 0 whatever the maps do
    values = levels.drop("image").drop_nulls().to_numpy() if levels.width > 2 else np.zeros((0, 2))
    of_means = interval(values, lambda nissim, axis: nissim.mean(axis).std(-1), seed=seed)
    return of_means, interval(values.std(1), seed=seed)


def paired(table: pl.DataFrame, *, seed: int = 0) -> list[ModelTest]:
    """For each pair of models, attack, epsilon and explainer: Wilcoxon's test on the same images, Holm-corrected."""
    found = []
    attacked = table.filter(pl.col("attack") != CLEAN)
    for key, group in attacked.group_by(["attack", "epsilon", "explainer"], maintain_order=True):
        attack, epsilon, explainer = key
        wide = group.sort("image").pivot("model", index="image", values="nissim")
        for a, b in combinations(group["model"].unique(maintain_order=True).to_list(), 2):
            both = wide.select(a, b).drop_nulls()
            if both.height:
                test = paired_test(both[a].to_numpy(), both[b].to_numpy(), seed=seed)
                found.append(ModelTest(a, b, attack, epsilon, explainer, test, test.p_value))
    found.sort(key=lambda row: (row.explainer, row.attack, row.epsilon, row.a, row.b))
    running = 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].test.p_value)):
        running = max(running, min(1.0, found[place].test.p_value * (len(found) - rank)))
        found[place] = replace(found[place], p_holm=running)
    return found


def choose(table: pl.DataFrame, model: str, count: int, viewed: int = 0) -> tuple[list[str], list[str]]:
    """The most and the least moved images of a model, under its first attack and explainer at the largest epsilon.

    Args:
        viewed: at least so many of the most moved.
    """
    own = table.filter((pl.col("model") == model) & (pl.col("attack") != CLEAN))
    if not own.height or not count:
        return [], []
    own = own.filter((pl.col("attack") == own["attack"][0]) & (pl.col("explainer") == own["explainer"][0]))
    own = own.filter(pl.col("epsilon") == own["epsilon"].max()).sort(["nissim", "image"], descending=[True, False])
    # where neither map has a positive part, it did not move, nor stay
    images = own.drop_nulls("nissim")["image"].to_list()
    most = images[: max(count, viewed)]
    return most, [image for image in images[::-1][:count] if image not in most]


def answer(table: pl.DataFrame, rows: Sequence[ShiftRow], tests: Sequence[ModelTest]) -> list[str]:
    """In sentences: how far maps move, whether with the label, and off the object; which model shifts least."""
    sentences: list[list[str]] = []
    by_box = (table["object"] == "box").all()
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        # a clean row holds the maps of one explainer
        clean = {row.explainer: row for row in own if row.attack == CLEAN}
        for attack, explainer in dict.fromkeys((row.attack, row.explainer) for row in own if row.attack != CLEAN):
            curve = [row for row in own if (row.attack, row.explainer) == (attack, explainer)]
            said = (
                *(_far(curve), _moves(curve), _leaves(curve, clean[explainer], by_box)),
                *(_accuracy(curve, clean[explainer]), _vanishes(curve)),
            )
            sentences.append([f"{model}, {explainer}, {attack}: {sentence}" for sentence in said if sentence])
    ranking = _ranking(rows, tests)
    if len(sentences) <= ONE_BY_ONE:
        return [*(sentence for curve in sentences for sentence in curve), *ranking]
    joined = [" ".join([first, *map(_alone, more)]) for first, *more in sentences]
    return [_overview(rows), *ranking, *joined]


def folded(rows: Sequence[ShiftRow]) -> int:
    """How many of the answer's last sentences, one of each curve, a page folds: the overview stands for them."""
    curves = len({_curve(row) for row in rows if row.attack != CLEAN})
    return curves if curves > UNFOLDED else 0


def _alone(line: str) -> str:
    """A sentence of a curve without the curve's name before it."""
    said = line.split(": ", 1)[1]
    return said[0].upper() + said[1:]


def _overview(rows: Sequence[ShiftRow]) -> str:
    """Of many curves, how far maps move where they move least and where most."""
    top = {key: max(row.epsilon for row in rows if _curve(row) == key) for key in map(_curve, rows)}
    last = [row for row in rows if row.attack != CLEAN and row.epsilon == top[_curve(row)]]
    known = sorted((row for row in last if row.means["mod"].value is not None), key=lambda row: row.means["mod"].number)
    what = f"{len(last)} combinations of model, attack and explainer"
    if not known:
        return f"Of {what} none has two maps to compare."
    ends = [
        f"{measured(row.means['mod'])} ({row.model}, {row.explainer}, {row.attack} at {epsilon(row.epsilon)})"
        for row in (known[0], known[-1])
    ]
    without = f"; {len(last) - len(known)} have no two maps to compare" if len(known) < len(last) else ""
    return f"{what}, each at its largest budget: maps move by MOD {ends[0]} at least and {ends[1]} at most{without}."


def _curve(row: ShiftRow) -> tuple[str, str, str]:
    return row.model, row.attack, row.explainer


def _far(curve: Sequence[ShiftRow]) -> str:
    """How far the maps of all photos move at the largest epsilon."""
    last = max(curve, key=lambda row: row.epsilon)
    mean, count = last.means["mod"], last.summary.count
    where = f"at epsilon {epsilon(last.epsilon)}"
    if last.empty_both == count:
        return (
            f"{where} {count:,} of {count:,} maps have no positive part, and had none before the attack: nothing "
            "can be said of whether they move."
        )
    if mean.value is None:
        return f"{where} no photo has two maps to compare."
    known = count - mean.missing
    photos = f"of {counted(known)}" if not mean.missing else f"of the {counted(known)} with a map ({count} in all)"
    words = next(words for most, words in FAR if mean.value <= most)
    few = "" if mean.low is not None else f"; {counted(known)}: too few for an interval"
    return (
        f"{where} the heatmaps {photos} move by {measured(mean)} on average (MOD: 0 is the same map, 0.5 an unrelated "
        f"one{few}): {words}."
    )


def _moves(curve: Sequence[ShiftRow]) -> str:
    def seen(row: ShiftRow) -> tuple[float, float]:
        kept = row.means["kept"].number
        return min(kept, 1 - kept), row.epsilon

    # the level at which most of both kinds are seen
    row = max(curve, key=seen)
    count, of_kept, of_changed = row.summary.count, row.means["mod_kept"], row.means["mod_changed"]
    stayed = round(row.means["kept"].number * count)
    where = f"at epsilon {epsilon(row.epsilon)} the label stays on {stayed} of {count} images"
    if not stayed:
        return f"{where}: whether the map moves where it stays cannot be told; smaller budgets leave more labels."
    if of_kept.value is None:
        return f"{where}; none of these has two maps to compare."
    moved = f"{where} and the map moves there by MOD {measured(of_kept)}"
    if of_changed.value is None:
        no_map = "where the label changes no photo has two maps to compare"
        return f"{moved}; {'the label changes nowhere' if stayed == count else no_map}."
    if min(stayed, count - stayed) < FEWEST:
        few = f"stays on {stayed}" if stayed < count - stayed else f"changes on {count - stayed}"
        return f"{moved}; it {few} only, too few to say whether the map moves with the label."
    # of the numbers that are read
    kept, changed = (float(measured(mean).split()[0]) for mean in (of_kept, of_changed))
    share = kept / changed if changed else 1.0
    verdict = "the map moves although the label does not" if share >= 0.5 else "the map moves mostly with the label"
    return f"{moved}, against {measured(of_changed)} where the label changes: {verdict} ({share:.0%} as far)."


def _leaves(curve: Sequence[ShiftRow], clean: ShiftRow, by_box: bool) -> str:
    last = max(curve, key=lambda row: row.epsilon)
    before, after = clean.means["on_object"].value, last.means["on_object"].value
    count = last.empty_one + last.empty_both
    empty = (
        f"{count} of {last.summary.count} images have a map without a positive part, which is nowhere" if count else ""
    )
    if before is None or after is None:
        # of maps that all had none before, the first sentence says so
        return f"at epsilon {epsilon(last.epsilon)} {empty}." if last.empty_one else ""
    thing = "in the object's box" if by_box else "where the clean map looks"
    # of the whole per cents that are read, or the numbers of the sentence would not add up
    was, now = round(100 * before), round(100 * after)
    elsewhere = f"{100 - now}% of it lies elsewhere now, {was - now} points more than before"
    moved = last.means["mod"].value
    if before - after <= 0.05 and moved is not None and moved > SAME:
        verdict = f"it has not gone elsewhere, but the map is another (MOD {measured(last.means['mod'])})"
    elif before - after <= 0.05:
        verdict = "it stays there"
    elif by_box:
        verdict = f"{elsewhere}: it has left the object for spurious evidence"
    else:
        verdict = f"{elsewhere} (no boxes say whether on the object)"
    return (
        f"{was}% of the map's mass lies {thing} before the attack and {now}% at "
        f"epsilon {epsilon(last.epsilon)}: {verdict}{f'; {empty}' if empty else ''}."
    )


def _accuracy(curve: Sequence[ShiftRow], clean: ShiftRow) -> str:
    right = clean.means["top1"].value
    if right is None:
        return ""
    shown = ", ".join(
        f"{row.means['top1'].value:.1%} at {epsilon(row.epsilon)}" for row in sorted(curve, key=lambda row: row.epsilon)
    )
    return f"accuracy {right:.1%}, attacked {shown}."


def _vanishes(curve: Sequence[ShiftRow]) -> str:
    """Images without a gradient are not robust: they were not attacked."""
    row = max(curve, key=lambda row: row.untouched)
    if not row.untouched:
        return ""
    return (
        f"{row.untouched} of {row.summary.count} images are left as they were at epsilon {epsilon(row.epsilon)}, "
        "because the gradient of what the attack raises is exactly zero there (probabilities of 0 and 1, where logits "
        "are large, or a network that saturates): nothing is shown of them. Divide the logits by a constant, which "
        "changes no prediction, to attack these too."
    )


def _ranking(rows: Sequence[ShiftRow], tests: Sequence[ModelTest]) -> list[str]:
    """Models from the least to the most shifted, at the largest epsilon, and whether neighbours can be told apart."""
    sentences = []
    groups = dict.fromkeys((row.attack, row.explainer) for row in rows if row.attack != CLEAN)
    for attack, explainer in groups:
        own = [row for row in rows if (row.attack, row.explainer) == (attack, explainer)]
        top = max(row.epsilon for row in own)
        known = [row for row in own if row.epsilon == top and row.means["mod"].value is not None]
        last = sorted(known, key=lambda row: row.means["mod"].number)
        if len(last) < 2:
            continue
        certain = {
            frozenset((test.a, test.b)): test.p_holm < 0.05
            for test in tests
            if (test.attack, test.explainer, test.epsilon) == (attack, explainer, top)
        }
        shown = f"{last[0].model} ({last[0].means['mod'].value:.3f})"
        for before, row in pairwise(last):
            apart = certain.get(frozenset((before.model, row.model)))
            shown += f"{' < ' if apart else ' ~ '}{row.model} ({row.means['mod'].value:.3f})"
        sentences.append(
            f"{attack}, {explainer}: from the least to the most shifted at epsilon {epsilon(top)}, by MOD: {shown}; "
            "~ stands where the two cannot be told apart (Wilcoxon with Holm, 5%)."
        )
        spread = sorted((row for row in last if not np.isnan(row.vid.value)), key=lambda row: row.vid.value)
        if len(spread) < 2:
            continue
        shown = f"{spread[0].model} ({spread[0].vid.value:.3f})"
        for before, row in pairwise(spread):
            apart = before.vid.high < row.vid.low
            shown += f"{' < ' if apart else ' ~ '}{row.model} ({row.vid.value:.3f})"
        sentences.append(f"{attack}, {explainer}: by VID: {shown}; ~ stands where the 95% intervals meet.")
    return sentences
