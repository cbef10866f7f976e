"""Whether thresholds speak for what is audited: the explainer, the layer's depth, the resolution, the budget."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.shipped import is_population
from heatproof.commands.audit.verdict import CALIBRATING, Thresholds
from heatproof.errors import LayerError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.classifier import Classifier
from heatproof.models.intact import evaluating
from heatproof.models.layers import DEFAULT, PIXELS, default_layer, grey_image, known_layouts, layer_name, record
from heatproof.report.words import counted
from heatproof.types import AtLayer, Explainer, inside

NEAR_SIZE = 2.0
"""A resolution is near the population's where neither is more than so many times the other."""
NEAR_BUDGET = 1.5
"""The same for the forward passes per photo, for numbers that move with them."""
MOVING = {"agreement": NEAR_BUDGET, "worst_class": NEAR_BUDGET, "share": NEAR_BUDGET, "all_classes": 4.0}
"""Numbers that move with the budget, and how many times the population's it may be; docs/methods/audit.md says why."""
SHARPENED = ("hidden_place",)
"""Numbers that the population's own budget is needed for: of few squares the witness shows one place by itself."""
OF_LAYOUT = {"NLC": "tokens", "NCL": "tokens", "NHWC": "a grid with channels last"}
"""Networks that keep their maps so are transformers and their kin: none is in a population of convolutional ones."""
ALIKE = 0.1
"""Spread of the cells' lengths below which they are alike [ours]: layer norm over channels leaves 0.01, and networks of
the populations have 0.25 or more."""
PROBES, BLOCKS = 8, 6
"""Images of random blocks, so many a side, by which the cells are looked at."""
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
    if population and not is_population(population, settings.explainer, model):
        apart.append(f"the maps are {settings.explainer!r}'s")
    sizes = {int(size): int(count) for size, count in dict(known.get("sizes") or {}).items()}
    side = max(model.input_shape)
    near = sum(count for size, count in sizes.items() if 1 / NEAR_SIZE <= side / size <= NEAR_SIZE)
    if sizes and near < CALIBRATING:
        few = f", of which size {counted(near, 'network')} {'is' if near == 1 else 'are'} too few" if near else ""
        apart.append(f"the photos have {side} pixels a side{few}")
    layouts, own = known.get("layouts"), network_layout(settings.explainer, model)
    # files of pixel maps that were calibrated before it was looked at have none
    if isinstance(layouts, list) and layouts and own is not None and own not in layouts:
        where = "the maps are read from" if layout_read(settings.explainer, model) else "the network keeps its maps as"
        apart.append(f"{where} {OF_LAYOUT.get(own, own)}")
    # the network is asked only where the thresholds say what their own are like
    cells = known.get("cells")
    kinds: list[str] = cells if isinstance(cells, list) else []  # pyright: ignore[reportUnknownVariableType]
    kind = network_cells(settings.explainer, model) if kinds else None
    if kind is not None and kind not in kinds:
        apart.append(
            "layer norm makes the features of every place equally large, so that background counts as much as objects"
            if kind == "alike"
            else "the features of some places are larger than those of others"
        )
    return Outside(" and ".join(apart), _described(population, sizes)) if apart else None


def layout_read(explainer: Explainer, model: Classifier) -> str | None:
    """The letters of the layout of the layer that is read, such as ``NCHW``; ``None``: none is, or it is not known."""
    within = inside(explainer)
    if within:
        return layout_read(within[0], model)
    layer = getattr(explainer, "layer", None)
    pixels = layer == PIXELS or (layer is None and isinstance(explainer, LRP))
    if not isinstance(explainer, AtLayer) or pixels:
        return None
    name = default_layer(model) if layer in (None, DEFAULT) else layer_name(model, layer)
    known = known_layouts(model, grey_image(model)).known
    found = {layout.dims for (own, _), layout in known.items() if own == name and layout}
    return found.pop() if len(found) == 1 else None


def network_layout(explainer: Explainer, model: Classifier) -> str | None:
    """The layout of the layer that is read; where the explainer reads none, that of the model's default layer."""
    try:
        return layout_read(explainer, model) or layout_read(GradCAM(), model)
    except LayerError:  # no layer puts out a map
        return None


def network_cells(explainer: Explainer, model: Classifier) -> str | None:
    """Whether the vectors of a layer's cells are all of one length, ``alike``, or ``apart``; ``None``: it has no grid.

    std_p |A_p| / mean_p |A_p| over the cells p of the layer that is read, or of the default layer, mean over
    :data:`PROBES` images of random blocks; alike below :data:`ALIKE` [ours]. Where layer norm has made them so, a map
    that weighs channels shows places without an object as large as others, in honest networks too.
    """
    layout = network_layout(explainer, model)
    if layout not in ("NCHW", "NHWC"):
        return None
    reads = isinstance(explainer, AtLayer) and layout_read(explainer, model) is not None
    layer = getattr(explainer, "layer", None) if reads else None
    name = default_layer(model) if layer in (None, DEFAULT) else layer_name(model, layer)
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(PROBES, model.channels, BLOCKS, BLOCKS, generator=generator)
    parameter = next(model.parameters(), blocks)
    images = F.interpolate(blocks, model.input_shape).to(parameter)
    with torch.no_grad(), evaluating(model):
        _, found = record(model, images, [name], create_graph=False)
    channels = layout.index("C")
    lengths = found[name].detach().float().norm(dim=channels).flatten(1)
    if lengths.shape[1] < 2 or not bool((lengths.mean(1) > 0).all()):
        return None
    spread = lengths.std(1) / lengths.mean(1)
    return "alike" if float(spread.mean()) < ALIKE else "apart"


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
    moved = [name for name, most in MOVING.items() if not 1 / NEAR_BUDGET <= times <= most]
    return dict.fromkeys(moved + [name for name in SHARPENED if times < 1], why)


def _described(population: str, sizes: dict[int, int]) -> str:
    told = ", ".join(f"{counted(count, 'network')} at {size} pixels" for size, count in sorted(sizes.items()))
    return f"{population or 'one of an unknown explainer'} on {told or 'networks of unknown resolution'}"
