import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatproof import catalog, spec
from heatproof.errors import SpecError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SmoothGrad


def build(text: str):
    return spec.build(text, catalog.EXPLAINERS, "explainer")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("gradcam", GradCAM()),
        ("GradCAM()", GradCAM()),
        ("grad_cam(layer='layer4', relu=False)", GradCAM("layer4", relu=False)),
        ('grad-cam ( "layer4" )'.replace("-", "_"), GradCAM("layer4")),
        ("smooth_grad(sigma=1/8 + 0.5*2)", SmoothGrad(sigma=1.125)),
        ("SmoothGrad(samples=4)", SmoothGrad(samples=4)),
    ],
)
def test_builds(text: str, wanted: object) -> None:
    assert build(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradcm", "there is no explainer 'gradcm'; did you mean gradcam"),
        ("gradcam(layr='x')", "gradcam has no setting 'layr'; did you mean layer"),
        ("gradcam(layer=layer4)", "'layer4' in .* is no value; texts stand in quotes"),
        ("gradcam(", "cannot be read; write name"),
        ("__import__('os').system('true')", "is no explainer"),
        ("gradcam(layer=__import__('os'))", "there is no name '__import__'"),
        ("smooth_grad(samples=1/0)", "cannot be computed: division by zero"),
        ("gradcam(**{})", r"\*\* is not understood"),
        ("gradcam('a', layer='b')", "multiple values for argument 'layer'"),
        ("smooth_grad(samples=0)", "needs at least 1 sample, got 0"),
        ("9", "cannot be read; write name"),
        ("smooth_grad(sigma=1+True)", "only numbers can be computed with"),
        ("smooth_grad(sigma=-'a')", "only numbers can be computed with"),
    ],
)
def test_refuses_with_a_sentence(text: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        build(text)
    assert isinstance(caught.value, ValueError | LookupError)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SpecError):
        build(text)


@given(st.fractions(max_denominator=1000).filter(lambda f: f != 0))
def test_numbers_are_computed(value) -> None:
    assert spec.number(f"{value.numerator}/{value.denominator}") == value.numerator / value.denominator


def test_only_what_differs_is_shown() -> None:
    assert repr(GradCAM(relu=False)) == "GradCAM(relu=False)"
    assert repr(SmoothGrad(samples=16)) == "SmoothGrad()"


@pytest.mark.parametrize(
    "text", ["-" * 2000 + "1", "1+" * 2500 + "1", "(" * 100 + ")" * 100, "[" * 90 + "]" * 90, "9" * 5000, "x" * 10**6]
)
def test_long_and_deep_texts_are_refused_at_once_and_briefly(text):
    for read in (spec.number, build):
        with pytest.raises(SpecError) as caught:
            read(text)
        assert len(str(caught.value)) < 400


def test_what_is_built_may_be_infinite_or_refuse_in_its_own_words() -> None:
    entries = {"sqrt": math.sqrt, "factorial": math.factorial}
    assert spec.build("sqrt(inf)", entries) == math.inf
    with pytest.raises(SpecError, match=r"'sqrt\(-1\)': .*"):
        spec.build("sqrt(-1)", entries)
    with pytest.raises(SpecError, match=r"'factorial\(0.5\)': 'float' object cannot be interpreted as an integer"):
        spec.build("factorial(0.5)", entries)
