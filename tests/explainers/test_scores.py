"""Scores that are no name, threads, holes, and classes for all images."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import InputError, SpecError
from heatproof.explainers.occlusion import patch_masks, patch_places
from heatproof.explainers.scores import Likeness, Output, explained
from heatproof.explainers.together import explain_together
from networks import photos, small


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.gather(1, targets[:, None])[:, 0] - outputs[:, 0]


@pytest.mark.parametrize("explainer", [hp.GradCAM, hp.SimpleGrad, hp.IntegratedGradients, hp.Occlusion, hp.RISE])
def test_a_function_is_a_score(explainer: type) -> None:
    """Maps are linear in a score that is a difference of logits."""
    model, images = small(), photos()
    targets, first = torch.tensor([1, 2, 3]), torch.zeros(3, dtype=torch.long)
    more: dict[str, Any] = {"masks": 20} if explainer is hp.RISE else {}
    more |= {"relu": False} if explainer is hp.GradCAM else {}

    def maps(score: Any, targets: Tensor) -> Tensor:
        return explainer(score=score, **more)(model, images, targets).heatmaps

    got = maps(margin, targets)
    if explainer is hp.SimpleGrad:
        assert not got.allclose(maps("logit", targets))
        assert maps(margin, first).abs().max() == 0
    else:
        torch.testing.assert_close(got, maps("logit", targets) - maps("logit", first))


def test_a_score_gives_one_number_per_image() -> None:
    with pytest.raises(SpecError, match=r"one number per image, here \[3\].*gave \[3, 4\]"):
        hp.GradCAM(score=lambda outputs, targets: outputs)(small(), photos())


def test_the_text_of_a_function_says_whose_it_is() -> None:
    text = repr(hp.GradCAM(score=margin))
    assert text == repr(hp.GradCAM(score=margin))
    assert "margin, code " in text
    assert "0x" not in text
    other = repr(hp.GradCAM(score=lambda outputs, targets: outputs[:, 1]))
    assert other != repr(hp.GradCAM(score=lambda outputs, targets: outputs[:, 2]))
    assert repr(hp.GradCAM(score=Output(2, sign=-1))) == "GradCAM(score=Output(index=2, sign=-1))"


def test_one_output_whatever_the_target() -> None:
    logits, targets = torch.tensor([[1.0, 3.0, -2.0]]), torch.tensor([0])
    assert explained(logits, targets, Output(2, sign=-1)).tolist() == [2.0]
    assert explained(torch.tensor([[0.0, 7.0]]), targets, Output()).tolist() == [7.0]
    with pytest.raises(InputError, match=r"output\(3\) is none of the network's 3 outputs"):
        explained(logits, targets, Output(3))


def test_likeness_is_the_cosine_to_the_reference() -> None:
    model, images = small(), photos()
    score = Likeness(model(images[:1]).detach())
    found = score(model(images).detach(), torch.zeros(3, dtype=torch.long))
    assert found[0] == pytest.approx(1)
    assert hp.SimpleGrad(score=score)(model, images[:1]).heatmaps.max() < 1e-9
    assert hp.SimpleGrad(score=score)(model, images[1:]).heatmaps.max() > 1e-6
    with pytest.raises(InputError, match="reference has 3 numbers, the network's embedding 4"):
        Likeness(torch.ones(3))(model(images), torch.zeros(3, dtype=torch.long))
    assert repr(score) == repr(Likeness(model(images[:1]).detach())) != repr(Likeness(model(images[1:2]).detach()))


@pytest.mark.parametrize("explainer", [hp.GradCAM(), hp.GuidedBackprop(), hp.SimpleGrad("default")], ids=repr)
def test_eight_threads_get_the_maps_of_one(explainer: hp.GradCAM) -> None:
    model, images = small(), photos(24)
    model.train()
    wanted = [explainer(model, image[None]).heatmaps for image in images]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda image: explainer(model, image[None]).heatmaps, list(images) * 4))
    for place, heatmaps in enumerate(got):
        assert heatmaps.equal(wanted[place % 24])
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_passes_of_other_threads_are_not_recorded() -> None:
    """A thread that calls the network itself, beside the explainer."""
    model, images = small(), photos(8)
    model.eval()
    wanted = hp.GradCAM()(model, images[:1]).heatmaps
    with ThreadPoolExecutor(4) as pool:
        beside = [pool.submit(model, images) for _ in range(200)]
        got = [hp.GradCAM()(model, images[:1]).heatmaps for _ in range(50)]
        assert all(future.result().shape == (8, 4) for future in beside)
    assert all(heatmaps.equal(wanted) for heatmaps in got)


def test_occlusion_leaves_no_holes() -> None:
    with pytest.raises(InputError, match="stride of 3 pixels leaves holes between patches of 2"):
        hp.Occlusion(patch=2, stride=3)(small(), photos())
    odd: tuple[dict[str, Any], ...] = ({"stride": 0}, {"stride": -1}, {"patch": 0})
    for wrong in odd:
        with pytest.raises(InputError, match="at least 1 pixel, got"):
            hp.Occlusion(**wrong)
    assert hp.Occlusion(patch=3, stride=3)(small(), photos()).heatmaps.isfinite().all()


def test_occlusion_in_groups_is_the_formula() -> None:
    model, images, targets = small(), photos(2), torch.tensor([1, 3])
    masks = patch_masks(10, 10, 4, patch_places(10, 10, 4, 2)).double()
    drops = []
    for mask in masks:
        filled = images * mask + images.mean((2, 3), keepdim=True) * (1 - mask)
        drops.append((model(images) - model(filled)).gather(1, targets[:, None])[:, 0].detach())
    wanted = torch.einsum("mn,mhw->nhw", torch.stack(drops), 1 - masks) / (1 - masks).sum(0)
    for at_once in (1, 6, 64):
        got = hp.Occlusion(patch=4, stride=2, at_once=at_once)(model, images, targets).heatmaps
        torch.testing.assert_close(got, wanted)


def test_classes_for_all_images() -> None:
    model, images = small(), photos()
    grid = explain_together(model, images, [hp.GradCAM()], torch.tensor([2, 0]))
    assert grid.targets.tolist() == [[2, 0]] * 3
    each = explain_together(model, images, [hp.GradCAM()], torch.tensor([[2, 0]] * 3))
    assert grid.heatmaps[0].equal(each.heatmaps[0])


def test_lrp_of_one_logit_is_that_of_the_pair() -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    single, pair = nn.Linear(4, 1), nn.Linear(4, 2)
    with torch.no_grad():
        pair.weight.copy_(torch.cat([torch.zeros(1, 4), single.weight]))
        pair.bias.copy_(torch.cat([torch.zeros(1), single.bias]))
    images = photos(dtype=torch.float32)
    one, two = (hp.Classifier(nn.Sequential(*body, head), input_size=10).eval() for head in (single, pair))
    for score in ("logit", "contrast"):
        for target in (0, 1):
            targets = torch.full((3,), target)
            got, expected = (hp.LRP(score=score)(model, images, targets) for model in (one, two))
            torch.testing.assert_close(got.logits, expected.logits)
            if (score, target) != ("logit", 0):  # the pair's own first logit is 0, and has no relevance
                torch.testing.assert_close(got.heatmaps, expected.heatmaps)


def test_a_photo_that_was_not_embedded_is_no_reference() -> None:
    with pytest.raises(InputError, match=r"is embedded by the verbs; give the embedding here, Likeness\(model"):
        Likeness("face.png")(torch.rand(1, 4), torch.tensor([0]))
