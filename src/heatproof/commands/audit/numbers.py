"""The numbers of an audit: from the table and the tensors to the values whose means are judged."""

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

import numpy as np
import polars as pl
from torch import Tensor

from heatproof.commands.audit.called_out import judge_called_out
from heatproof.commands.audit.measure import Audit, center_distances, likeness
from heatproof.commands.audit.mosaic import exchanged, pointing
from heatproof.commands.audit.permutation import agreements, permuted, ranks
from heatproof.commands.audit.premises import SATURATED, Values, gains, is_saturated, one_class, unmet, witness_gains
from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.reference import swapped
from heatproof.commands.audit.scope import layout_read, moved_by_budget, outside
from heatproof.commands.audit.singled_out import hidden_place, predicted_class, predicted_worst
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.uninformative import uninformative
from heatproof.commands.audit.verdict import (
    COUNTED,
    FEWEST,
    FREE,
    REFERENCES,
    Check,
    Thresholds,
    judge,
    judge_equivariance,
    judge_own_witness,
    judge_share,
    with_share,
)
from heatproof.data.mosaics import FEWEST_TILES
from heatproof.explainers.together import LayerExplainer
from heatproof.models.classifier import Classifier
from heatproof.report.words import counted
from heatproof.results.table import interval

CLASSES_APART = 5
"""Classes without which the map of a logit's lead over the others is not the logit's."""
STAYED: dict[str, str] = dict.fromkeys(("noise", "fgsm"), ", whose answer stayed")
"""Which photos they are that a number is known on."""
PHOTOS_OF_PLACES = 30
"""Photos without which a place can be missing in the maps by chance."""


def with_joint_columns(table: pl.DataFrame, tensors: AuditTensors) -> pl.DataFrame:
    """The table of :func:`~heatproof.commands.audit.measure.measure` and the columns that need all photos at once."""
    places = table["place"].to_list()
    columns = {"likeness": likeness(tensors.maps), "center_distance": center_distances(tensors.maps)}
    return table.with_columns(
        pl.Series(name, values[places].double().numpy(), dtype=pl.Float64).fill_nan(None)
        for name, values in columns.items()
    )


def numbers(table: pl.DataFrame, tensors: AuditTensors) -> Iterator[tuple[str, Values]]:
    """The values, mostly one per photo, whose mean is each of :data:`~heatproof.commands.audit.questions.NUMBERS`.

    One number after the other, with its name: a hundred thousand values as a list take megabytes each.
    """

    def column(name: str) -> Values:
        return table[name].to_list() if name in table.columns else []

    yield "agreement", column("agreement")
    yield "own_witness", _own_ranks(tensors)
    yield from _of_classes(tensors)
    yield "faithfulness", gains(table, "aopc", odds=False)
    yield "share", _share(table)
    yield "hidden_place", [] if (place := hidden_place(tensors.maps, tensors.witness)) is None else list(place[0])
    yield "center_spread", column("center_distance")
    yield from _of_mosaics(tensors)
    for name in ("likeness", "frame", "equivariance", "contrast", "softmax_contrast", "randomised", "noise", "fgsm"):
        yield name, column(name)
    for name in ("reference_spearman", "reference_nissim", "self_spearman"):
        yield name, column(name)
    if tensors.likeness_to_reference is not None:
        whose = "self" if "self_spearman" in table.columns else "reference"
        likeness_by_class = tensors.likeness_to_reference.diagonal(dim1=1, dim2=2)
        yield f"{whose}_worst_class", list(_worst(likeness_by_class, tensors.targets))
        pair = swapped(tensors.likeness_to_reference, tensors.targets)
        yield "reference_swap", [] if pair is None or whose == "self" else [pair[0]]


def known(values: Values) -> list[float]:
    """Those that are known."""
    return [value for value in values if value is not None]


def _of_classes(tensors: AuditTensors) -> Iterator[tuple[str, Values]]:
    """Agreement of the maps of all explained classes: per photo, and per photo of the class that has it lowest."""
    values, classes = tensors.by_class.double(), tensors.targets
    if classes.shape[1] < 2:
        return
    worst = predicted_worst(tensors.by_class, classes)
    yield "all_classes", values.nanmean(1).tolist()
    yield "worst_class", list(_worst(values, classes))
    yield "predicted_class", [None if value != value else value for value in predicted_class(tensors.by_class)]
    yield "predicted_worst", [] if worst is None else list(worst[0])


def _own_ranks(tensors: AuditTensors) -> Values:
    likeness = agreements(tensors.maps, tensors.witness)
    return [] if len(likeness) < 2 else list(ranks(likeness).tolist())


def _of_mosaics(tensors: AuditTensors) -> Iterator[tuple[str, Values]]:
    if tensors.mosaics is None:
        return
    pair = exchanged(tensors.mosaics.shares, tensors.mosaics.classes)
    own = pointing(tensors.mosaics.shares, tensors.mosaics.quarters)
    yield "mosaic", [None if value != value else value for value in own]
    yield "mosaic_swap", [] if pair is None else list(pair[0])


def _worst(values: Tensor, classes: Tensor) -> list[float]:
    """The values of the class that has the lowest mean, of those that were explained on enough photos."""
    worst: list[float] = []
    for chosen in classes.unique().tolist():
        own = values[(classes == chosen) & ~values.isnan()].double().tolist()
        if len(own) >= FEWEST and (not worst or np.mean(own) < np.mean(worst)):
            worst = own
    return worst


def _share(table: pl.DataFrame) -> Values:
    """The ratio of two means, as values whose mean it is and whose spread is its own (delta method)."""
    odds = is_saturated(table)
    both = zip(gains(table, "aopc", odds=odds), gains(table, "aopc_witness", odds=odds), strict=True)
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    if not pairs or not witness_gains(table):
        return []
    own, best = (float(np.mean(side)) for side in zip(*pairs, strict=True))
    return [own / best + (a - own / best * b) / best for a, b in pairs]


def checks_of(
    settings: Audit,
    table: pl.DataFrame,
    tensors: AuditTensors,
    thresholds: Thresholds,
    *,
    model: Classifier,
    skipped: int = 0,
    reference: str | None = None,
) -> list[Check]:
    """Every number of the audit, with its verdict, or why there is none.

    Args:
        table: the rows of :func:`~heatproof.commands.audit.measure.measure`, with :func:`with_joint_columns`.
        tensors: of the same photos.
        model: whose maps they are; without it nobody knows whether the thresholds are for such maps.
        skipped: photos that could not be read.
        reference: the check that the reference belongs to: ``reference``, or ``self`` for one of the model's own.
    """
    found = {name: interval(known(values)) for name, values in numbers(table, tensors)}
    why = _why_not(settings, table, tensors, thresholds, model)
    ground = unmet(table, skipped)
    why |= dict.fromkeys(NUMBERS, "; ".join(ground)) if ground else {}
    share = found["share"]
    # without thresholds nothing is judged at all
    bare = bool(thresholds.limits) and not ground and not one_class(table)
    free = bare and isfinite(share.high)
    fitting = "equivariance" in thresholds.limits and "equivariance" not in why
    free_of_limits = bare and not fitting and _on_a_grid(settings, model)
    checks = []
    for name, about in NUMBERS.items():
        if about.check in REFERENCES and about.check != reference:
            continue
        own = found.get(name) or interval([])
        if name in COUNTED:
            checks.append(judge_called_out(table, thresholds, why.get(name, "")))
        elif name == "own_witness" and bare and isfinite(own.value) and name not in why:
            chance = permuted(agreements(tensors.maps, tensors.witness), settings.seed)
            checks.append(judge_own_witness(own, *chance))
        elif name == "share" and free and (name in why or is_saturated(table)):
            checks.append(judge_share(own, "log-odds" if is_saturated(table) else "probability"))
        elif name == "equivariance" and free_of_limits and isfinite(own.high):
            checks.append(judge_equivariance(own))
        else:
            checks.append(judge(name, own, thresholds, why.get(name, "")))
            if name == "faithfulness":
                checks[-1] = with_share(checks[-1], share)
    return [_of_some(check, table) for check in checks]


def _of_some(check: Check, table: pl.DataFrame) -> Check:
    """The check with the photos that it rests on, where these are not all."""
    count = _known_of(check.number, table)
    if check.verdict == "not applicable" or count is None or count == table.height:
        return check
    return replace(check, reason=f"{check.reason} On {count} of {counted(table.height)}{STAYED.get(check.number, '')}.")


def _known_of(number: str, table: pl.DataFrame) -> int | None:
    """The photos on which a number of single photos is known."""
    if number in COUNTED or number not in table.columns:
        return None
    return len(known(table[number].to_list()))


def _on_a_grid(settings: Audit, model: Classifier) -> bool:
    """Whether maps are read from a layer that moves with the photo; tokens may know their place."""
    return layout_read(settings.explainer, model) in ("NCHW", "NHWC")


def _why_not(
    settings: Audit, table: pl.DataFrame, tensors: AuditTensors, thresholds: Thresholds, model: Classifier
) -> dict[str, str]:
    """The numbers that cannot be judged on these photos, of this explainer or by these thresholds, and why."""
    # the last word counts: that a number cannot be measured at all says more than that no threshold fits it
    why = uninformative(thresholds) | moved_by_budget(settings, thresholds)
    if is_saturated(table):
        why["faithfulness"] = f"the probabilities are saturated ({SATURATED:.0%} or more on average); see share"
    if tensors.targets.shape[1] < CLASSES_APART and int(tensors.targets.max()) < CLASSES_APART:
        few = "among few classes what sets one apart is also what speaks against the others, in honest models too"
        why |= dict.fromkeys(("contrast", "softmax_contrast"), few)
    if apart := outside(settings, model, thresholds):
        why |= dict.fromkeys(NUMBERS.keys() - FREE, f"outside the thresholds' population: {apart.how}")
    if one_class(table):
        one = "nearly all photos are of one class or taken for it"
        why |= {name: one for name, about in NUMBERS.items() if about.check not in REFERENCES}
    elif tensors.mosaics is None:
        few = f"no two classes have {FEWEST_TILES} photos that are taken for them"
        why |= dict.fromkeys(("mosaic", "mosaic_swap"), few)
    if "contrast" not in table.columns:
        text = f"{settings.explainer!r} cannot be told to explain differences of logits"
        why |= dict.fromkeys(("contrast", "softmax_contrast"), text)
    if table.height < PHOTOS_OF_PLACES:
        why["hidden_place"] = (
            f"of as few as {table.height} photos some place is always left out by chance; give {PHOTOS_OF_PLACES}"
        )
    for name in NUMBERS:
        count = _known_of(name, table)
        if count is not None and 0 < count < FEWEST <= table.height:
            on = f"on {count} of {counted(table.height)}{STAYED.get(name, '')}"
            why[name] = f"it is known {on} only; it takes {FEWEST}"
    if "self_spearman" not in table.columns:
        stuck = "no step of the repair came closer to the witness at what accuracy it may cost"
        why |= dict.fromkeys(("self_spearman", "self_worst_class"), stuck)
    if not isinstance(settings.explainer, LayerExplainer):
        text = f"for the maps of all classes {settings.explainer!r} takes passes of its own, class by class"
        why |= dict.fromkeys(("all_classes", "worst_class", "predicted_class", "predicted_worst"), text)
        why["equivariance"] = f"the map of a moved photo takes passes of its own of {settings.explainer!r}"
    elif "equivariance" not in table.columns:
        why["equivariance"] = "this audit was made before it was measured"
    return why
