"""Whether thresholds speak for what is audited: the explainer, the layer's depth, the resolution, the budget."""

from dataclasses import dataclass, fields, is_dataclass, replace

from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.verdict import CALIBRATING, Thresholds
from heatproof.models.classifier import Classifier
from heatproof.models.layers import DEFAULT, PIXELS, default_layer
from heatproof.types import Explainer

NEAR_SIZE = 2.0
"""A resolution is near the population's where neither is more than so many times the other."""
NEAR_BUDGET = 1.5
"""The same for the forward passes per photo, for numbers that move with them."""
MOVING = {"agreement": NEAR_BUDGET, "worst_class": NEAR_BUDGET, "share": NEAR_BUDGET, "all_classes": 4.0}
"""Numbers that move with the budget, and how many times the population's it may be; docs/methods/audit.md says why."""
WAY_OUT = "--calibrate with three or more honest models of yours makes thresholds that fit"


@dataclass(frozen=True)
class Outside:
    """In which way a network lies outside the population of thresholds, and what that population is."""

    how: str
    population: str


def outside(settings: Audit, model: Classifier, thresholds: Thresholds) -> Outside | None:
    """In which way the audited network lies outside the thresholds' population; ``None`` where it lies inside.

    Thresholds that do not say what they were measured with are taken to fit: they are the user's own.
    """
    known = thresholds.provenance
    apart, population = [], str(known.get("explainer", ""))
    if population:
        own = _with_default_layer(settings.explainer, model)
        if population not in (repr(settings.explainer), repr(own)):
            apart.append(f"the maps are {settings.explainer!r}'s")
    sizes = {int(size): int(count) for size, count in dict(known.get("sizes") or {}).items()}
    side = max(model.input_shape)
    near = sum(count for size, count in sizes.items() if 1 / NEAR_SIZE <= side / size <= NEAR_SIZE)
    if sizes and near < CALIBRATING:
        apart.append(f"the photos have {side} pixels a side")
    return Outside(" and ".join(apart), _described(population, sizes)) if apart else None


def moved_by_budget(settings: Audit, thresholds: Thresholds) -> dict[str, str]:
    """The numbers that this budget moves too far from the population's, and why they are not judged."""
    budget = thresholds.provenance.get("budget")
    if not isinstance(budget, int) or budget < 1:
        return {}
    times = settings.budget / budget
    why = (
        f"it moves with the budget, which is {settings.budget} here and {budget} in the thresholds' population; "
        f"--budget {budget}, or {WAY_OUT}"
    )
    return {name: why for name, most in MOVING.items() if not 1 / NEAR_BUDGET <= times <= most}


def _described(population: str, sizes: dict[int, int]) -> str:
    counted = ", ".join(f"{count} networks at {size} pixels" for size, count in sorted(sizes.items()))
    return f"{population or 'one of an unknown explainer'} on {counted or 'networks of unknown resolution'}"


def _with_default_layer(explainer: Explainer, model: Classifier) -> Explainer:
    """The explainer as it is written when it reads the model's default layer and nobody names it."""
    default = {f.name: f.default for f in fields(explainer)} if is_dataclass(explainer) else {}
    layer = getattr(explainer, "layer", None)
    if "layer" not in default or default["layer"] == PIXELS or layer is None or layer == PIXELS:
        return explainer
    if layer == DEFAULT or layer == default_layer(model):
        return replace(explainer, layer=default["layer"])  # type: ignore[type-var]
    return explainer
