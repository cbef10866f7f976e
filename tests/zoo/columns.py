"""The columns of the zoo: of one architecture, what each family of explainers makes of a square that moves.

A cell *works* where the map follows the square in networks that see it, is *refused* where a sentence says why, and
*cannot tell* where no draw of random weights sees the square. What is left is *wrong*: there must be none. Gradients of
pixels and occlusion have a definition that can be worked out anew: there a cell works where the map equals it.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

import torch
from torch import Tensor

import heatproof as hp
from heatproof.explainers.cam_family import GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from heatproof.explainers.gradient import InputXGradient, IntegratedGradients, SimpleGrad, SmoothGrad
from heatproof.explainers.guided import GuidedBackprop
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import Occlusion
from heatproof.explainers.together import explain_together
from heatproof.models.layers import find_layer, known_layouts
from heatproof.models.layout import Layout
from heatproof.models.structure import observer
from heatproof.types import Explainer
from zoo import definitions
from zoo.measure import Misread, Places, Shift, changes, followed, held, misreadings, mover, seen
from zoo.networks import CLASSES, CORNERS, PLACES, build, squares, taken

DRAWS = 20
"""Random weights that do not see the square are drawn again, so often at most."""
SAME = 1e-4
"""The largest error of a map that equals its definition, in float32."""
TOGETHER = 2
"""So many draws that see the square are judged together, and each one more as long as the map does not follow."""
SMALL = 96
"""Pixels of a side for maps of pixels, where an architecture takes it."""
CAM_FAMILY = {
    "gradcam": hp.GradCAM(relu=False),
    "gradcam_plus_plus": GradCAMPlusPlus(relu=False),
    "xgradcam": XGradCAM(relu=False),
    "layercam": LayerCAM(relu=False),
    "hirescam": HiResCAM(relu=False),
}


@dataclass
class Cell:
    """What an explainer, or the worst of a family, makes of an architecture."""

    status: str
    """works, refused, cannot tell, wrong or error."""
    rows: float = 0.0
    cols: float = 0.0
    """Correlations of the map's shift with the square's."""
    reason: str = ""
    draws: int = 0
    """Random weights that see the square, of all that were drawn."""
    drawn: int = 0
    layer: str = ""
    passes: float = 0.0
    """What LRP's first call costs, tracing among it, in forward and backward passes of the same image."""
    controls: dict[str, float] = field(default_factory=dict)
    """Planted faults: the lesser of their two correlations."""
    error: float | None = None
    """Where the map has a definition: the largest difference from it, as a share of its largest value."""


@dataclass
class Tally:
    """What one explainer's maps change, over the draws."""

    places: Places
    total: Tensor | None = None

    def add(self, changed: Tensor) -> None:
        self.total = changed if self.total is None else self.total + changed

    @property
    def shift(self) -> Shift:
        return Shift(0.0, 0.0) if self.total is None else followed(self.total, self.places)


Judged = dict[str, Cell]


def cam_columns(name: str) -> Judged:
    """Grad-CAM and its family at the default layer, and the planted faults of Grad-CAM."""
    tallies = {key: Tally(PLACES) for key in CAM_FAMILY}
    faults: dict[str, Tally] = {}
    draws, drawn, layer, best, sound = 0, 0, "", Shift(0.0, 0.0), True
    for model in _drawn(name):
        drawn += 1
        images = squares(model.input_shape[0])
        try:
            layer = hp.default_layer(model, images[:1])
        except hp.HeatproofError as error:
            return {key: Cell("refused", reason=str(error), drawn=drawn) for key in CAM_FAMILY}
        raw: list[Tensor] = []
        # with an observer what is known of the network stays known
        look = observer(lambda *given, raw=raw: raw.append(given[2].detach()))
        hook = find_layer(model, layer).register_forward_hook(look)
        with torch.no_grad():
            finite = bool(model(images).isfinite().all())
            model(images[:1])
        if not finite:
            hook.remove()
            continue
        right = known_layouts(model, images).get(layer, raw[-1])
        assert right is not None
        planted = {
            fault: Misread(CAM_FAMILY["gradcam"], right, wrong, raw[-1].shape)
            for fault, wrong in misreadings(right, raw[-1].shape).items()
        }
        every = {**CAM_FAMILY, **planted}
        grid = explain_together(model, images, list(every.values()), torch.arange(CLASSES))
        hook.remove()
        shift = held(raw[-1], PLACES)
        best = max(best, shift, key=lambda one: one.least)
        if not (seen(grid.logits) and shift.follows):
            continue
        draws += 1
        for key, maps in zip(every, grid.heatmaps, strict=True):
            tally = tallies[key] if key in tallies else faults.setdefault(key, Tally(PLACES))
            tally.add(changes(maps[2:], maps[:1]))
        sound = sound and _is_sound(model, layer, right, raw[-1], images, grid.heatmaps[0][2:3, 0])
        if draws >= TOGETHER and all(tally.shift.follows for tally in tallies.values()):
            break
    found = {key: _judged(tally.shift, draws, drawn) for key, tally in tallies.items()}
    for key, cell in found.items():
        cell.layer = layer
        if draws < TOGETHER:
            cell.status = "cannot tell"
            cell.reason = f"of {drawn} draws {draws} see the square: the layer's numbers by {best.least:.2f} at best"
        elif cell.status == "wrong" and (sound or found["gradcam"].status == "works"):
            # the same layer in the same layout and the same gradient: what is left is the formula's own taste
            where = "where Grad-CAM does" if found["gradcam"].status == "works" else "where the layer's numbers do"
            cell.status, cell.reason = "cannot tell", f"follows by {tallies[key].shift.least:.2f} {where}"
    found["gradcam"].controls = {fault: round(tally.shift.least, 3) for fault, tally in faults.items()}
    return found


def _is_sound(model: hp.Classifier, layer: str, right: Layout, raw: Tensor, images: Tensor, heatmap: Tensor) -> bool:
    """Whether the numbers of the layer follow the square in the very layout that is read, and the map is Grad-CAM's.

    Where both are so, a map that does not follow is the network's: its gradient does not point at the square.
    """
    maps = right.maps(raw)
    defined = definitions.gradcam(definitions.bare(model), find_layer(model, layer), right, images[2:3], 0)
    off = (heatmap - defined).abs().max()
    follows = followed(changes(maps[2:], maps[:1]), PLACES).follows
    return follows and bool(defined.any()) and bool(off <= SAME * defined.abs().max())


GRADIENTS: dict[str, Explainer] = {
    "simple_grad": SimpleGrad(),
    "input_x_gradient": InputXGradient(),
    "smooth_grad": SmoothGrad(samples=definitions.SAMPLES),
    "integrated_gradients": IntegratedGradients(steps=definitions.STEPS),
    "guided_backprop": GuidedBackprop(),
}
COMPOSITES: dict[str, Explainer] = {"lrp": LRP(), "attnlrp": LRP(composite="attnlrp")}


def gradient_columns(name: str) -> Judged:
    """The pixels' gradients."""
    return _defined(name, GRADIENTS)


def lrp_columns(name: str) -> Judged:
    """LRP to the pixels, by the default composite and by that for attention."""
    passes = _passes(_built(name, 0))
    found = _pixels(name, COMPOSITES)
    for cell in found.values():
        cell.passes = passes
    return found


def _passes(model: hp.Classifier) -> float:
    """Of the first composite that has all rules, by the processor's time; 0 where there is none."""
    images = squares(model.input_shape[0])[:1]
    for explainer in COMPOSITES.values():
        began = time.process_time()
        try:
            explainer(model, images, torch.zeros(1, dtype=torch.long))
        except hp.HeatproofError:
            continue
        first = time.process_time() - began
        passes = []
        for _ in range(3):
            began = time.process_time()
            # networks that keep a part of their graph go through it again
            model(images.clone().requires_grad_())[:, 0].sum().backward(retain_graph=True)
            model.zero_grad()
            passes.append(time.process_time() - began)
        return round(first / median(passes), 2)
    return 0.0


def occlusion_columns(name: str) -> Judged:
    """What is covered. RISE asks the network by the same function, but needs thousands of masks."""
    side = _side(_built(name, 0))
    return _defined(name, {"occlusion": Occlusion(patch=-(-side // 3), stride=side // 3)})


def _pixels(name: str, explainers: dict[str, Explainer]) -> Judged:
    tallies = {key: Tally(CORNERS) for key in explainers}
    refused: dict[str, str] = {}
    draws, drawn = 0, 0
    for model in _drawn(name):
        drawn += 1
        images = squares(_side(model), CORNERS, 0.2)
        with torch.no_grad():
            logits = model(images)
        target = mover(logits)
        if target is None or not seen(logits):
            continue
        draws += 1
        images = torch.cat([images[:1], images[2:]])
        with _untouched(model):
            for key in tallies.keys() - refused.keys():
                try:
                    found = explainers[key](model, images, torch.full((len(images),), target))
                except hp.HeatproofError as error:
                    refused[key] = str(error)
                    continue
                assert found.heatmaps.isfinite().all(), f"{key}: a map that is not finite"
                maps = found.heatmaps.detach()[:, None]
                tallies[key].add(changes(maps[1:], maps[:1]))
        if all(tallies[key].shift.follows for key in tallies.keys() - refused.keys()):
            break
    return {
        key: Cell("refused", reason=refused[key], drawn=drawn) if key in refused else _judged(tally.shift, draws, drawn)
        for key, tally in tallies.items()
    }


def _defined(name: str, explainers: dict[str, Explainer]) -> Judged:
    """Each map against its definition, in the first draw whose scores move."""
    found: Judged = {key: Cell("cannot tell", reason="no score moves", drawn=DRAWS) for key in explainers}
    for drawn, model in enumerate(_drawn(name), 1):
        images = squares(_side(model), CORNERS, 0.2)
        with torch.no_grad():
            target = mover(model(images))
        if target is None:
            continue
        for key, explainer in explainers.items():
            found[key] = _held_to(getattr(definitions, key), explainer, model, images[1:3], target)
            found[key].drawn = drawn
        if all(cell.status != "cannot tell" for cell in found.values()):
            break
    return found


def _held_to(
    definition: Callable[[definitions.Bare, Tensor, int], Tensor],
    explainer: Explainer,
    model: hp.Classifier,
    images: Tensor,
    target: int,
) -> Cell:
    cell = Cell("wrong")
    # where float32 is too coarse for so small a difference, float64 decides
    for dtype in (torch.float32, torch.float64):
        asked = model if dtype == torch.float32 else deepcopy(model).double()
        right = definition(definitions.bare(asked), images.to(dtype), target)
        try:
            with _untouched(asked):
                maps = explainer(asked, images.to(dtype), torch.full((len(images),), target)).heatmaps.detach()
        except hp.HeatproofError as error:
            return Cell("refused", reason=str(error))
        if not right.any():
            return Cell("cannot tell", reason="its definition is zero everywhere")
        off = float(((maps - right).abs().amax((1, 2)) / right.abs().amax((1, 2))).max())
        cell = Cell("works" if off <= SAME else "wrong", draws=1, error=off)
        if cell.status == "works":
            break
    return cell


@contextmanager
def _untouched(model: hp.Classifier) -> Generator[None]:
    """The attributes of all modules are the same objects afterwards."""
    attributes = [dict(vars(module)) for module in model.modules()]
    yield
    for before, module in zip(attributes, model.modules(), strict=True):
        after = vars(module)
        assert list(before) == list(after), "attributes of the network came or went"
        assert all(after[key] is value for key, value in before.items()), "an attribute of the network changed"


def _side(model: hp.Classifier) -> int:
    return SMALL if taken(model.network, SMALL) else model.input_shape[0]


def _drawn(name: str) -> Iterator[hp.Classifier]:
    for seed in range(DRAWS):
        yield _built(name, seed)


@lru_cache(maxsize=2)
def _built(name: str, seed: int) -> hp.Classifier:
    # every column asks the same first draws, and leaves them as they were
    return build(name, seed)


def _judged(shift: Shift, draws: int, drawn: int) -> Cell:
    status = "cannot tell" if not draws else "works" if shift.follows else "wrong"
    reason = "" if draws else f"of {drawn} draws none sees the square"
    return Cell(status, round(shift.rows, 3), round(shift.cols, 3), reason, draws, drawn)


COLUMNS: dict[str, Callable[[str], Judged]] = {
    "cam": cam_columns,
    "gradients": gradient_columns,
    "lrp": lrp_columns,
    "occlusion": occlusion_columns,
}
MADE_BY: dict[str, Sequence[str]] = {
    "cam": tuple(CAM_FAMILY),
    "gradients": tuple(GRADIENTS),
    "lrp": tuple(COMPOSITES),
    "occlusion": ("occlusion",),
}
