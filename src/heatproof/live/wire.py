"""What page and server say to each other: JSON that is read with distrust, and looks as JSON."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from heatproof import catalog, spec
from heatproof.attacks.gradient import FGSM, PGD
from heatproof.attacks.noise import RandomSign
from heatproof.commands.explain import at_layers
from heatproof.commands.shift.measure import Condition
from heatproof.defences.smoothed import Smoothed
from heatproof.errors import InputError
from heatproof.live.look import Covered, Live, Look, Sight, Wanted, map_of
from heatproof.manipulation.penalties import TopK
from heatproof.report.overlay import CEILING, FLOOR, as_colours
from heatproof.report.style import DIVERGING, SEQUENTIAL, palette
from heatproof.results.viewer import reduced
from heatproof.types import BallAttack, Explainer, Heatmaps, Images, Penalty, is_signed

EXPLAINERS = (
    *("gradcam()", "gradcam(relu=False)", "gradcam(counterfactual=True)", "gradcam_plus_plus()", "xgradcam()"),
    *(
        "layercam()",
        "hirescam()",
        "eigencam()",
        "relevancecam()",
        "simple_grad()",
        "input_x_gradient()",
        "guided_backprop()",
        "lrp()",
    ),
    "occlusion()",
)
"""What the page offers; others are given when it is started."""
ATTACKS: Mapping[str, tuple[BallAttack, Penalty | None]] = {
    "against the label, one step (FGSM)": (FGSM(), None),
    "against the label, 10 steps (PGD)": (PGD(), None),
    "against the map, label kept (PGD)": (PGD(), TopK()),
    "none: noise of the same size": (RandomSign(), None),
}
LARGEST_EPSILON, LARGEST_SIGMA, LARGEST_COPIES = 0.25, 0.5, 32


class Words:
    """The page's requests, read for the networks and photos of ``live``.

    Args:
        explainers: specs that are offered, besides :data:`EXPLAINERS`.
        typed: the command that started the page, for what is saved.

    Raises:
        SpecError: a spec that cannot be read.
    """

    def __init__(self, live: Live, explainers: Sequence[str] = ()):
        self.live = live
        built = [spec.build(text, catalog.EXPLAINERS, "explainer") for text in (*explainers, *EXPLAINERS)]
        self.explainers: dict[str, Explainer] = {repr(one): one for one in built}

    def begin(self) -> dict[str, Any]:
        """What there is to choose from."""
        live = self.live
        return {
            "models": live.names,
            "source": live.source.name,
            "photos": live.source.ids,
            "classes": live.classes,
            "explainers": list(self.explainers),
            "layers": live.layers,
            "default": live.default,
            "attacks": list(ATTACKS),
            "look": {"unsigned": palette(SEQUENTIAL), "signed": palette(DIVERGING), "floor": FLOOR, "ceiling": CEILING},
        }

    def wanted(self, body: Mapping[str, Any]) -> Wanted:
        """What is looked at.

        Raises:
            InputError: what the page does not offer.
        """
        name, layer, kind = _text(body, "explainer"), _text(body, "layer"), _text(body, "attack")
        known, target = self.explainers.get(name), _text(body, "target").strip()
        if known is None:
            raise InputError(f"the page offers no such explainer; start it with --explainer to have {name!r}")
        if layer and layer not in self.live.layers:
            raise InputError(f"there is no layer {layer!r} with a map in {self.live.models[0].name}")
        (explainer,) = at_layers([known], [layer] if layer else [])
        sigma, copies = _number(body, "sigma", LARGEST_SIGMA), int(_number(body, "copies", LARGEST_COPIES))
        if sigma > 0:
            explainer = Smoothed(explainer, n=max(1, copies), sigma=sigma)
        attack, penalty = ATTACKS.get(kind, (None, None))
        if attack is None:
            raise InputError(f"the page offers no attack {kind!r}")
        return Wanted(
            photo=int(_number(body, "photo", len(self.live.source) - 1)),
            explainer=explainer,
            target=self.live.models[0].class_index(target) if target else None,
            attack=replace(attack, epsilon=_number(body, "epsilon", LARGEST_EPSILON)),  # type: ignore[type-var]
            penalty=penalty,
        )

    def look(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The look that is wanted, as the page draws it."""
        look = self.live.look(self.wanted(body))
        signed = is_signed(look.wanted.explainer)
        assert look.wanted.target is not None
        return {
            "target": self.live.classes[look.wanted.target],
            "sights": [_sight(sight, signed) for sight in look.sights],
            "differences": [_map(difference, signed=True) for difference in look.differences],
            "apart": [_known(value) for value in look.apart],
            "changed": look.changed,
            "sentences": look.sentences,
        }

    def seen(self, body: Mapping[str, Any]) -> Look:
        """The look that is to be saved: the one on the page, which is kept."""
        return self.live.look(self.wanted(body))

    def cover(self, body: Mapping[str, Any]) -> Covered:
        """What the network loses under a square."""
        return self.live.cover(
            self.wanted(body),
            int(_number(body, "model", 1)),
            body.get("attacked") is True,
            (_number(body, "x", 1.0), _number(body, "y", 1.0)),
            _number(body, "side", 1.0),
        )


def read_object(data: bytes) -> dict[str, Any]:
    """The object in a request.

    Raises:
        InputError: it is none.
    """

    def refuse(text: str) -> NoReturn:
        raise ValueError(text)

    try:
        found = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError("the request is no JSON") from error
    if not isinstance(found, dict):
        raise InputError("the request is no object")
    return found


def _text(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name, "")
    if not isinstance(found, str) or len(found) > 1000:
        raise InputError(f"{name} is a text")
    return found


def _number(body: Mapping[str, Any], name: str, largest: float) -> float:
    found = body.get(name)
    # an integer beyond every float is compared, and not converted
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= largest:
        raise InputError(f"{name} is a number from 0 to {largest:g}")
    return float(found)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _sight(sight: Sight, signed: bool) -> dict[str, Any]:
    return {
        "model": sight.name,
        "nissim": _known(sight.nissim),
        "conditions": [_condition(sight, one, signed) for one in (sight.clean, sight.attacked)],
    }


def _condition(sight: Sight, condition: Condition, signed: bool) -> dict[str, Any]:
    return {
        "photo": _png(condition.images),
        "map": _map(map_of(condition), signed),
        "answers": sight.answers(condition),
        "probability": sight.probability(condition),
    }


def _map(heatmap: Heatmaps, signed: bool) -> dict[str, Any]:
    values = reduced(heatmap[0].double().cpu().numpy())
    rows = [[float(f"{v:.4g}") if math.isfinite(v) else None for v in row] for row in values.tolist()]
    return {"rows": len(rows), "cols": len(rows[0]), "values": rows, "signed": signed}


def _png(images: Images) -> str:
    """Without loss: what an attack changes is small."""
    pixels = (images[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(as_colours(pixels))).save(file, "png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
