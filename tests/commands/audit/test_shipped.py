"""Each explainer is judged by the thresholds of its own population, and no other can pass for it."""

from dataclasses import dataclass

import pytest

from heatproof import catalog, spec
from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.scope import outside
from heatproof.commands.audit.shipped import POPULATIONS, thresholds_for, thresholds_of
from heatproof.commands.audit.verdict import Limits, Thresholds
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.cam_family import LayerCAM, XGradCAM
from heatproof.explainers.gradient import SimpleGrad, SmoothGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.relevance_cam import RelevanceCAM
from heatproof.models.layers import default_layer
from networks import small


def sized():
    model = small()
    model.input_size = 32
    return model


@pytest.mark.parametrize("name", POPULATIONS)
def test_a_file_holds_the_population_of_its_explainer(name: str) -> None:
    found, known = thresholds_of(name), spec.build(f"{name}()", catalog.EXPLAINERS, "explainer")
    assert (known, repr(known)) == (POPULATIONS[name], found.provenance["explainer"])
    assert sum(found.provenance["sizes"].values()) == len(found.provenance["networks"]) >= 14
    assert found.limits["faithfulness"].count == len(found.provenance["networks"])
    assert thresholds_for(known, sized()) == found
    assert outside(Audit(explainer=known), sized(), found) is None


def test_the_default_layer_by_name_is_no_other_explainer() -> None:
    model = sized()
    layer = default_layer(model)
    for name, named in {
        "gradcam": GradCAM(layer),
        "layercam": LayerCAM(layer),
        "relevancecam": RelevanceCAM(layer),
    }.items():
        assert thresholds_for(named, model) == thresholds_of(name)
        assert outside(Audit(explainer=named), model, thresholds_of(name)) is None


@pytest.mark.parametrize(
    ("odd", "nearest"),
    [
        (LRP(stabilizer=0.02), "lrp"),
        (LRP(composite="epsilon"), "lrp"),
        (RelevanceCAM(score="logit"), "relevancecam"),
        (SimpleGrad(layer="default"), "simple_grad"),
        (SmoothGrad(samples=2), "smooth_grad"),
        (SmoothGrad(seed=1), "smooth_grad"),
        (GradCAM(relu=False), "gradcam"),
        (XGradCAM(), "gradcam"),
    ],
)
def test_other_settings_are_outside_and_the_nearest_is_named(odd, nearest: str) -> None:
    model = sized()
    known = thresholds_for(odd, model)
    assert known == thresholds_of(nearest)
    found = outside(Audit(explainer=odd), model, known)
    assert found is not None
    assert repr(odd) in found.how
    assert found.population.startswith(repr(POPULATIONS[nearest]))


def test_a_name_alone_opens_no_population() -> None:
    @dataclass(frozen=True)
    class Fake:
        layer: str | None = None

        def __call__(self, model, images, targets=None, *, create_graph=False):
            raise NotImplementedError

        def __repr__(self) -> str:
            return "LRP()"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    model = sized()
    assert thresholds_for(Fake(), model) == Thresholds.shipped()
    # neither those of the package nor a copy of them that is given as a file
    for known in (Thresholds.shipped(), thresholds_of("lrp")):
        assert outside(Audit(explainer=Fake()), model, known) is not None


def test_thresholds_of_ones_own_are_known_by_the_text_of_their_explainer() -> None:
    own = Thresholds({"frame": Limits(0.5, 0.1, 4)}, None, {"explainer": "XGradCAM()", "budget": 49})
    assert outside(Audit(explainer=XGradCAM()), sized(), own) is None
    assert outside(Audit(explainer=GradCAM()), sized(), own) is not None
