"""The rows of ``summary.json`` of a shift, the paired tests between models, and the answer in words."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import polars as pl

from heatproof.commands.shift.measure import CLEAN
from heatproof.results.table import interval, paired_test, summarise

BY = ("model", "attack", "epsilon", "explainer")
CURVE = ("model", "attack", "explainer")
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


def shift_rows(table: pl.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """A row per model, attack, epsilon and explainer, the clean images (epsilon 0) included.

    ``mod`` is the mean NISSIM, ``mod_kept`` and ``mod_changed`` over the images whose predicted class stayed or not,
    ``vid`` the population deviation of MOD over the epsilons of one attack, ``vid_per_image`` the mean of each image's
    own deviation; both count the images that have every epsilon. ``empty_both`` and ``empty_one`` are numbers of
    images whose two maps, or one of them, are empty.
    """
    same_label = pl.col("kept")
    table = table.with_columns(
        pl.when(same_label).then(pl.col("nissim")).alias("nissim_kept"),
        pl.when(~same_label).then(pl.col("nissim")).alias("nissim_changed"),
    )
    rows = summarise(table, BY, METRICS, seed=seed)
    both, one = pl.col("empty") & pl.col("empty_clean"), pl.col("empty") ^ pl.col("empty_clean")
    counts = table.group_by(BY).agg(both.sum().alias("both"), one.sum().alias("one"))
    empty = {tuple(row[:4]): row[4:] for row in counts.iter_rows()}
    deviations = {key: _deviations(curve, seed) for key, curve in table.group_by(CURVE, maintain_order=True)}
    for row in rows:
        row["empty_both"], row["empty_one"] = empty[tuple(row[name] for name in BY)]
        row |= deviations[tuple(row[name] for name in CURVE)]
        if row["mod"] == 0:
            # NISSIM is no rate: where no map moved at all there is nothing uncertain about it
            row["mod_low"] = row["mod_high"] = 0.0
    return sorted(
        rows, key=lambda row: (row["model"], row["explainer"], row["attack"] != CLEAN, row["attack"], row["epsilon"])
    )


def _deviations(curve: pl.DataFrame, seed: int) -> dict[str, float | None]:
    # the levels are the attack's epsilons; the clean images, whose MOD is 0, are none
    levels = curve.filter(pl.col("attack") != CLEAN).sort("image").pivot("epsilon", index="image", values="nissim")
    values = levels.drop("image").drop_nulls().to_numpy() if levels.width > 1 else np.zeros((0, 1))
    row: dict[str, float | None] = {}
    of_means = interval(values, lambda nissim, axis: nissim.mean(axis).std(-1), seed=seed)
    of_images = interval(values.std(1), seed=seed)
    for name, found in (("vid", of_means), ("vid_per_image", of_images)):
        for end, number in (("", found.value), ("_low", found.low), ("_high", found.high)):
            row[name + end] = None if np.isnan(number) else number
    return row


def paired(table: pl.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """For each pair of models, attack, epsilon and explainer: does NISSIM differ on the same images?

    ``difference`` is the mean of NISSIM under ``a`` minus under ``b`` with its interval, ``p_value`` Wilcoxon's
    signed-rank test, ``p_holm`` the same after Holm's correction for the number of tests.
    """
    found = []
    attacked = table.filter(pl.col("attack") != CLEAN)
    for key, group in attacked.group_by(["attack", "epsilon", "explainer"], maintain_order=True):
        wide = group.sort("image").pivot("model", index="image", values="nissim")
        for a, b in combinations(group["model"].unique(maintain_order=True).to_list(), 2):
            both = wide.select(a, b).drop_nulls()
            if both.height:
                test = paired_test(both[a].to_numpy(), both[b].to_numpy(), seed=seed)
                names = dict(zip(("attack", "epsilon", "explainer"), key, strict=True))
                found.append({"a": a, "b": b, **names, **test._asdict()})
    found.sort(key=lambda row: (row["explainer"], row["attack"], row["epsilon"], row["a"], row["b"]))
    running = 0.0
    for place, row in enumerate(sorted(found, key=lambda row: row["p_value"])):
        running = max(running, min(1.0, row["p_value"] * (len(found) - place)))
        row["p_holm"] = running
    return found


def choose(table: pl.DataFrame, model: str, count: int) -> tuple[list[str], list[str]]:
    """The most and the least moved images of a model, under its first attack and explainer at the largest epsilon."""
    own = table.filter((pl.col("model") == model) & (pl.col("attack") != CLEAN))
    if not own.height or not count:
        return [], []
    own = own.filter((pl.col("attack") == own["attack"][0]) & (pl.col("explainer") == own["explainer"][0]))
    own = own.filter(pl.col("epsilon") == own["epsilon"].max()).sort(["nissim", "image"], descending=[True, False])
    images = own["image"].to_list()
    most = images[:count]
    return most, [image for image in images[::-1][:count] if image not in most]


def answer(table: pl.DataFrame, rows: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]]) -> list[str]:
    """In sentences: does the map move when the label does not, does it leave the object, which model shifts least."""
    sentences = []
    by_box = (table["object"] == "box").all()
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        clean = next(row for row in own if row["attack"] == CLEAN)
        for attack, explainer in dict.fromkeys(
            (row["attack"], row["explainer"]) for row in own if row["attack"] != CLEAN
        ):
            curve = [row for row in own if (row["attack"], row["explainer"]) == (attack, explainer)]
            sentences += [
                f"{model}, {explainer}, {attack}: {sentence}"
                for sentence in (_moves(curve, table), _leaves(curve, clean, by_box), _accuracy(curve, clean))
                if sentence
            ]
    return [*sentences, *_ranking(rows, tests)]


def _moves(curve: Sequence[dict[str, Any]], table: pl.DataFrame) -> str:
    # the level at which most of both kinds are seen
    row = max(curve, key=lambda row: (min(row["kept"], 1 - row["kept"]), row["epsilon"]))
    stayed = round(row["kept"] * row["count"])
    where = f"at epsilon {row['epsilon']:.4g} the label stays on {stayed} of {row['count']} images"
    if not stayed:
        return f"{where}, so that no map can be seen to move under a label that stays."
    low, high = row["mod_kept_low"], row["mod_kept_high"]
    span = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    moved = f"{where} and the map moves there by MOD {row['mod_kept']:.3f}{span}"
    if row["mod_changed"] is None:
        return f"{moved}; the label changes nowhere."
    share = row["mod_kept"] / row["mod_changed"] if row["mod_changed"] else 1.0
    verdict = "the map moves although the label does not" if share >= 0.5 else "the map moves mostly with the label"
    return f"{moved}, against {row['mod_changed']:.3f} where the label changes: {verdict} ({share:.0%} as far)."


def _leaves(curve: Sequence[dict[str, Any]], clean: dict[str, Any], by_box: bool) -> str:
    last = max(curve, key=lambda row: row["epsilon"])
    if clean["on_object"] is None or last["on_object"] is None:
        return ""
    thing = "in the object's box" if by_box else "where the clean map looks"
    lost = clean["on_object"] - last["on_object"]
    if lost <= 0.05:
        verdict = "it stays there"
    elif by_box:
        verdict = f"{lost:.0%} of it has left the object, to spurious evidence"
    else:
        verdict = f"{lost:.0%} of it lies elsewhere now (no boxes say whether on the object)"
    count = last["empty_one"] + last["empty_both"]
    empty = f"; {count} of {last['count']} images have an empty map, which is nowhere" if count else ""
    return (
        f"{clean['on_object']:.0%} of the map's mass lies {thing} before the attack and {last['on_object']:.0%} at "
        f"epsilon {last['epsilon']:.4g}: {verdict}{empty}."
    )


def _accuracy(curve: Sequence[dict[str, Any]], clean: dict[str, Any]) -> str:
    if clean["top1"] is None:
        return ""
    shown = ", ".join(f"{row['top1']:.1%} at {row['epsilon']:.4g}" for row in sorted(curve, key=lambda r: r["epsilon"]))
    return f"accuracy {clean['top1']:.1%}, attacked {shown}."


def _ranking(rows: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]]) -> list[str]:
    """Models from the least to the most shifted, at the largest epsilon, and whether neighbours can be told apart."""
    sentences = []
    groups = dict.fromkeys((row["attack"], row["explainer"]) for row in rows if row["attack"] != CLEAN)
    for attack, explainer in groups:
        own = [row for row in rows if (row["attack"], row["explainer"]) == (attack, explainer)]
        top = max(row["epsilon"] for row in own)
        last = sorted((row for row in own if row["epsilon"] == top), key=lambda row: row["mod"])
        if len(last) < 2:
            continue
        certain = {
            frozenset((test["a"], test["b"])): test["p_holm"] < 0.05
            for test in tests
            if (test["attack"], test["explainer"], test["epsilon"]) == (attack, explainer, top)
        }
        shown = f"{last[0]['model']} ({last[0]['mod']:.3f})"
        for before, row in pairwise(last):
            apart = certain.get(frozenset((before["model"], row["model"])))
            shown += f"{' < ' if apart else ' ~ '}{row['model']} ({row['mod']:.3f})"
        sentences.append(
            f"{attack}, {explainer}: from the least to the most shifted at epsilon {top:.4g}, by MOD: {shown}; "
            "~ stands where the two cannot be told apart (Wilcoxon with Holm, 5%)."
        )
        spread = sorted((row for row in last if row["vid"] is not None), key=lambda row: row["vid"])
        sentences.append(
            f"{attack}, {explainer}: by VID: "
            + " < ".join(f"{row['model']} ({row['vid']:.3f})" for row in spread)
            + "."
        )
    return sentences
