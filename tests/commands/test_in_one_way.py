"""Two models on one photo: compare and audit stop where cells of their maps would lie in different places."""

import warnings

import pytest
import torch

import heatproof as hp
from heatproof.commands.photos import in_one_way
from heatproof.errors import InputError, Remark
from heatproof.preprocessing import Preprocessing
from networks import photos, small


def made(**more: object) -> hp.Classifier:
    model = small(dtype=torch.float32)
    for name, value in more.items():
        setattr(model, name, value)
    return model


def test_equal_ways_pass_as_they_are() -> None:
    models = [made(resize=12), made(resize=12)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = in_one_way(models)
    assert all(one is other for one, other in zip(found, models, strict=True))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_that_says_nothing_takes_the_other_s_way(order: tuple[int, int]) -> None:
    both = made(name="says", resize=14), made(name="mine")
    models = [both[place] for place in order]
    with pytest.warns(Remark, match=r"mine does not say how photos are resized .* as says does"):
        found = in_one_way(models)
    assert [model.preprocessing for model in found] == [both[0].preprocessing] * 2
    assert both[1].resize is None
    assert found[order.index(1)].network is both[1].network


OTHERS = [{"resize": 12}, {"resize": 14, "interpolation": "bicubic"}, {"fit": "squash"}, {"input_size": 16}]


@pytest.mark.parametrize("other", [*OTHERS, {"resize": 14, "range": (0.0, 4095.0)}])
def test_other_differences_stop_with_both_ways_and_the_way_out(other: dict) -> None:
    models = [made(resize=14, name="a"), made(**other, name="b")]
    with pytest.raises(
        InputError, match=r"photos come to a as Preprocessing\(.* and to b as Preprocessing\(.*--resize"
    ):
        in_one_way(models)
    models[1].preprocessing = models[0].preprocessing
    assert in_one_way(models) == models


def test_compare_and_audit_refuse_and_leave_the_models_as_they_were() -> None:
    one, other, images = made(resize=12), made(resize=16), photos(4, size=20, dtype=torch.float32)
    for call in (
        lambda: hp.compare(one, other, images, explainer="gradcam()"),
        lambda: hp.audit(one, images, reference=other),
    ):
        with pytest.raises(InputError, match="different places of a photo"):
            call()
    assert (one.preprocessing, other.preprocessing) == (
        Preprocessing((10, 10), resize=12),
        Preprocessing((10, 10), resize=16),
    )


def test_a_photo_is_seen_in_the_way_of_the_model_that_says_one() -> None:
    """compare of a model with itself, of which one says how photos are resized: the same maps."""
    images = photos(4, size=20, dtype=torch.float32)
    with pytest.warns(Remark, match="does not say how photos are resized"):
        found = hp.compare(made(name="mine"), made(name="says", resize=19), images, explainer="gradcam()")
    assert all(row["spearman"] == pytest.approx(1) for row in found.rows)
    same = hp.compare(made(resize=19), made(resize=19), images, explainer="gradcam()")
    assert found.images["confidence"].to_list() == same.images["confidence"].to_list()
