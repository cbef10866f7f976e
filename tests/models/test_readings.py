"""Maps and detections read as logits: values by hand, a pure function, derivatives, peers' outputs, verbs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.command_line import heatproof
from torch import Tensor, nn

import heatproof as hp
from heatproof.answers.scored import as_score, scored
from heatproof.errors import InputError, ModelError, SpecError
from heatproof.explainers.scores import Likeness, Output, explained
from heatproof.models.readings import Detection, OverMask, overlaps, own_region


class Segments(nn.Module):
    """Three convolutions in float64; maps of logits of the image's own size."""

    def __init__(self, classes: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Softplus(), nn.Conv2d(5, 4, 3, padding=1))
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, x: Tensor) -> Any:
        return {"out": self.head(torch.tanh(self.body(x)))}


class Detects(nn.Module):
    """Two detections per image whose scores depend on what lies in their boxes; torchvision's form."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Softplus())
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        seen = self.head(self.body(x))[:, 0]
        boxes = torch.tensor([[0.0, 0, 4, 8], [4, 0, 8, 8]], dtype=x.dtype)
        scores = torch.stack([seen[:, :, :4].mean((1, 2)), seen[:, :, 4:].mean((1, 2))], 1).sigmoid()
        return [{"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": row} for row in scores]


def images(count: int = 2, size: int = 8) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def segmenter(reading: Any, **more: Any) -> hp.Classifier:
    return hp.Classifier(Segments(), input_size=8, reading=reading, name="segments", **more).double().eval()


def test_a_class_over_a_mask_is_its_mean_there() -> None:
    mask = torch.zeros(8, 8)
    mask[2:5, 1:7] = 1
    found = segmenter(OverMask(mask))(images())
    maps = Segments().double()(images())["out"]
    torch.testing.assert_close(found, maps[:, :, 2:5, 1:7].mean((2, 3)))
    # a mask of another size is brought to the maps': cells that are covered by half and more are inside
    coarse = torch.zeros(4, 4)
    coarse[1:3, 0:2] = 1
    torch.testing.assert_close(segmenter(OverMask(coarse))(images()), maps[:, :, 2:6, 0:4].mean((2, 3)))


def test_without_a_mask_it_is_the_class_s_own_region() -> None:
    maps = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    maps[:, 3] -= 20  # wins nowhere
    wanted = torch.zeros(3, 4, dtype=torch.float64)
    for image in range(3):
        for label in range(4):
            own = maps[image].argmax(0) == label
            if not own.any():
                others = maps[image].clone()
                others[label] = -torch.inf
                margin = maps[image, label] - others.amax(0)
                own = margin == margin.max()
            wanted[image, label] = maps[image, label][own].mean()
    torch.testing.assert_close(OverMask()(maps), wanted)
    assert own_region(maps).flatten(2).any(2).all()


def test_one_map_is_the_pair() -> None:
    z = torch.tensor([[[[2.0, -1.0], [4.0, -3.0]]]])
    # the second class where z > 0, the first, whose logit is 0, elsewhere
    torch.testing.assert_close(OverMask()(z), torch.tensor([[0.0, 3.0]]))


@pytest.mark.parametrize("reading", [OverMask(), OverMask(torch.eye(8)), Detection(3), Detection(3, (0, 0, 5, 8))])
@pytest.mark.parametrize("explainer", [hp.GradCAM(layer="body", relu=False), hp.SimpleGrad()])
def test_maps_are_pure_and_have_derivatives_in_the_weights(reading: Any, explainer: Any) -> None:
    """The network, the images and the global random state stay, and gradcheck holds in the weights."""
    network = (Detects() if isinstance(reading, Detection) else Segments()).double()
    model = hp.Classifier(network, input_size=8, reading=reading).double().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pixels, targets, state = images(), torch.tensor([1, 2]), torch.random.get_rng_state()
    kept = pixels.clone()
    first = explainer(model, pixels, targets)
    again = explainer(model, pixels, targets)
    assert first.heatmaps.equal(again.heatmaps)
    assert first.heatmaps.abs().sum() > 0
    assert pixels.equal(kept)
    assert torch.random.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    weight = network.body[0].get_parameter("weight")

    def number(values: Tensor) -> Tensor:
        network.body[0].weight = values  # type: ignore[assignment]
        return explainer(model, pixels, targets, create_graph=True).heatmaps.square().sum()

    del network.body[0].weight
    assert torch.autograd.gradcheck(number, weight.detach().clone().requires_grad_(), fast_mode=True)


def test_an_image_s_map_does_not_depend_on_its_neighbours() -> None:
    for model in (segmenter(OverMask()), hp.Classifier(Detects().double(), reading=Detection(3), input_size=8)):
        together = hp.GradCAM(layer="body", relu=False)(model, images(3), torch.tensor([1, 2, 1])).heatmaps
        alone = hp.GradCAM(layer="body", relu=False)(model, images(3)[1:2], torch.tensor([2])).heatmaps
        torch.testing.assert_close(together[1:2], alone)


def test_the_detection_that_overlaps_the_box_best() -> None:
    found = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [20, 20, 30, 30]]),
        "labels": torch.tensor([1, 1, 2]),
        "scores": torch.tensor([0.9, 0.6, 0.8]),
    }
    odds = torch.tensor([0.9, 0.6, 0.8, 1e-3]).logit()
    torch.testing.assert_close(overlaps(found["boxes"], (1, 1, 5, 5)), torch.tensor([9 / 23, 1.0, 0.0]))
    torch.testing.assert_close(Detection(3, (1, 1, 5, 5))([found])[0], odds[[3, 1, 3]])
    torch.testing.assert_close(Detection(3, (0, 0, 4, 4))([found])[0], odds[[3, 0, 3]])
    torch.testing.assert_close(Detection(3)([found])[0], odds[[3, 0, 2]])
    nothing = {key: value[:0] for key, value in found.items()}
    torch.testing.assert_close(Detection(3)([nothing])[0], odds[[3, 3, 3]])


def test_what_is_not_detected_has_an_empty_map_and_no_error() -> None:
    model = hp.Classifier(Detects(), input_size=8, reading=Detection(3, (0, 0, 4, 8))).eval()
    maps = hp.SimpleGrad()(model, images().float(), torch.tensor([1, 2])).heatmaps
    assert maps[0].abs().sum() > 0
    assert maps[1].abs().sum() == 0


def test_torchvision_s_detector_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSDLite with random weights; where torchvision's compiled operators are missing, its nms in Python."""
    from heatproof.vision import torchvision

    def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        kept: list[int] = []
        for place in scores.argsort(descending=True).tolist():
            corners: Any = tuple(boxes[place].tolist())
            if all(overlaps(boxes[other : other + 1], corners)[0] <= threshold for other in kept):
                kept.append(place)
        return torch.tensor(kept, dtype=torch.long)

    monkeypatch.setattr(torchvision.ops.boxes, "nms", nms)
    torch.manual_seed(0)
    network = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.0, topk_candidates=8, detections_per_img=100
    )
    model = hp.Classifier(network.eval(), input_size=96, reading=Detection(4), name="ssd").eval()
    pixels = torch.rand(1, 3, 96, 96)
    raw = network(pixels)[0]
    best = [raw["scores"][raw["labels"] == label].amax() for label in (1, 2, 3)]
    torch.testing.assert_close(model(pixels)[0, 1:], torch.stack(best).logit())
    found = hp.SimpleGrad()(model, pixels, torch.tensor([1]))
    assert found.heatmaps.shape == (1, 96, 96)
    assert found.heatmaps.abs().sum() > 0


def test_lrp_shares_out_the_region_s_logit() -> None:
    """Conservation, with biases left out: the map sums to the class's mean logit over the mask."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(6, 3, 1, bias=False)
    mask = torch.zeros(8, 8)
    mask[1:4, 2:8] = 1
    model = hp.Classifier(nn.Sequential(*layers).double(), input_size=8, reading=OverMask(mask)).double().eval()
    found = hp.LRP(stabilizer=1e-12, composite="epsilon")(model, images(), torch.tensor([0, 2]))
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), found.logits.gather(1, torch.tensor([[0], [2]]))[:, 0])


def test_lrp_starts_at_the_logits_that_are_named() -> None:
    """Of (aux, logits) the second: the first of several was taken, whatever was said."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.body, self.first, self.second = nn.Sequential(*layers), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            seen = self.body(x)
            return self.first(seen), self.second(seen)

    network, targets = Two().double(), torch.tensor([0, 1])
    for key, head in ((0, network.first), (1, network.second)):
        named = hp.Classifier(network, input_size=8, logits_key=key).double().eval()
        plain = hp.Classifier(nn.Sequential(network.body, head), input_size=8).double().eval()
        got, wanted = (hp.LRP()(model, images(), targets) for model in (named, plain))
        torch.testing.assert_close(got.heatmaps, wanted.heatmaps)
        torch.testing.assert_close(got.logits, wanted.logits)
    with pytest.raises(ModelError, match=r"returns a tuple of 2: say which part they are.*logits_key"):
        hp.LRP()(hp.Classifier(network, input_size=8).double().eval(), images(), targets)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ModelError, match=r"returned \(2, 3, 8, 8\); of a network that segments .*over_mask"):
        segmenter(None)(images())
    with pytest.raises(ModelError, match=r"which are no logits; of a network that detects .*detection"):
        hp.Classifier(Detects().double(), input_size=8)(images())
    with pytest.raises(ModelError, match="reads maps of logits"):
        hp.Classifier(nn.Flatten(), input_size=8, reading=OverMask())(images())
    with pytest.raises(ModelError, match="reads, of each image, a dict of boxes"):
        hp.Classifier(Segments().double(), input_size=8, reading=Detection(3))(images())
    with pytest.raises(InputError, match="found label 2, and Detection"):
        hp.Classifier(Detects().double(), input_size=8, reading=Detection(2))(images())
    for wrong in ({"classes": 1}, {"classes": 3, "box": (4, 0, 2, 2)}, {"classes": 3, "overlap": 2.0}):
        with pytest.raises(InputError, match=r"at least 2 labels|a box is|overlap lies"):
            Detection(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="somewhere positive"):
        OverMask(torch.zeros(4, 4))
    with pytest.raises(SpecError, match="belongs to the model"):
        hp.GradCAM(layer="body", score=OverMask())(segmenter(OverMask()), images())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is read by the verbs"):
        segmenter(OverMask("mask.png"))(images())


def test_scores_by_name_in_specs_and_as_objects(tmp_path: Path) -> None:
    assert as_score(" Log-Odds ") == as_score("logodds") == as_score("log_odds()") == "log_odds"
    assert as_score("output(index=2)") == Output(2)
    assert as_score("detection(91, box=(1, 2, 3, 4))") == Detection(91, (1, 2, 3, 4))
    assert repr(as_score("over_mask()")) == "OverMask()"
    given = [hp.GradCAM(), hp.GradCAM(score="contrast"), hp.CAM(), hp.RISE(masks=8)]
    model = segmenter(None)
    found = scored("log_odds", given, [model])
    assert found.explainers == (
        hp.GradCAM(score="log_odds"),
        hp.GradCAM(score="contrast"),
        hp.CAM(),
        hp.RISE(masks=8, score="log_odds"),
    )
    assert found.models == (model,)
    assert not found.given()
    read = scored("over_mask()", given, [model])
    assert read.explainers == tuple(given)
    assert read.given() == {"score": "OverMask()"}
    assert model.reading is None
    assert read.models[0].network is model.network
    for text, told in (("log_ods", "did you mean log_odds"), ("outpt(1)", "did you mean output")):
        with pytest.raises(SpecError, match=told):
            scored(text, given, [model])


def test_masks_and_references_are_files(tmp_path: Path) -> None:
    """A mask is resized and cropped as photos are; a likeness is to the model's own embedding of the photo."""
    inside = np.zeros((16, 32), np.uint8)
    inside[4:12, 8:16] = 255  # of the square that is cropped, 8 of 16 columns from 8, the first eight
    Image.fromarray(inside).save(tmp_path / "mask.png")
    model = hp.Classifier(Segments().double(), input_size=16, resize=16).double().eval()
    (read,) = scored(OverMask(tmp_path / "mask.png"), [], [model]).models
    assert isinstance(read.reading, OverMask)
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[4:12, 0:8] = True
    assert read.reading.mask is not None
    assert read.reading.mask.equal(wanted)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "dark.png")
    with pytest.raises(InputError, match="no pixel brighter than grey"):
        scored(OverMask(tmp_path / "dark.png"), [], [model])
    torch.manual_seed(0)
    embeds = hp.Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)), input_size=8).eval()
    face = str(tmp_path / "face.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(face)
    (explainer,) = scored(f"likeness({face!r})", [hp.SimpleGrad()], [embeds]).explainers
    photo = hp.open_photo(face, embeds)
    assert explained(embeds(photo), torch.tensor([0]), explainer.score)[0].item() == pytest.approx(1)
    assert as_score(repr(explainer.score)).digest == explainer.score.digest  # type: ignore[union-attr]
    with pytest.raises(InputError, match="is another photo now"):
        scored(Likeness(face, digest="0" * 12), [hp.SimpleGrad()], [embeds])
    with pytest.raises(InputError, match="one network's embedding"):
        scored(Likeness(face), [hp.SimpleGrad()], [embeds, embeds])


SQUARES = """
import torch
from torch import nn


def segments():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                            nn.Conv2d(8, 2, 1))
    network.mean, network.std, network.input_size, network.classes = 0.5, 0.5, 32, ["no", "yes"]
    return network
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, draw = tmp_path_factory.mktemp("segments"), np.random.default_rng(0)
    (place / "segments.py").write_text(SQUARES)
    for name in ("no", "yes"):
        (place / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "photos" / name / f"{number}.png")
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(mask).save(place / "mask.png")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["explain", "shift", "fool", "compare", "audit", "evaluate"])
def test_every_verb_asks_about_a_mask(verb: str, place: Path, tmp_path: Path) -> None:
    import json

    model, data, out = f"{place / 'segments.py'}:segments", str(place / "photos"), tmp_path / "out"
    words = {
        "explain": [data, "--model", model],
        "shift": [data, "--model", model, "--epsilon", "0.02"],
        "fool": [data, "--model", model, "--penalty", "location()", "--steps", "2", "--batch-size", "4"],
        "compare": [model, model, data, "--explainer", "gradcam()"],
        "audit": [model, data, "--limit", "4"],
        "evaluate": [model, data, "--limit", "4", "--metric", "aopc()"],
    }[verb]
    status = heatproof(verb, *words, "--score", f"over_mask('{place / 'mask.png'}')", "--out", str(out))
    assert status == (1 if verb == "audit" else 0) or status == 0
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["score"].startswith("OverMask(<32x32, 256 cells inside, sha256 ")
    models = record["model"] if isinstance(record["model"], list) else [record["model"]]
    assert models[0]["reading"] == record["settings"]["score"]
    assert (out / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("score", ["log_odds", "output(1)", "contrast"])
def test_fool_and_compare_take_a_score(score: str, place: Path, tmp_path: Path) -> None:
    fooled, out = tmp_path / "fooled", tmp_path / "out"
    words = ["demo", "--model", "demo", "--penalty", "location()", "--steps", "2", "--batch-size", "8", "--limit", "40"]
    assert heatproof("fool", *words, "--score", score, "--out", str(fooled)) == 0
    words = ["demo", str(fooled), "demo", "--explainer", "gradcam()", "--score", score, "--limit", "8"]
    assert heatproof("compare", *words, "--out", str(out)) == 0
    named = repr(hp.GradCAM(score=as_score(score)))  # type: ignore[arg-type]
    assert named in (fooled / "run.json").read_text().replace('\\"', '"')
    assert named in (out / "summary.json").read_text().replace('\\"', '"')


def test_a_mask_smaller_than_any_cell_is_refused() -> None:
    mask = torch.zeros(8, 8)
    mask[3, 3] = 1
    assert torch.equal(OverMask(mask)(torch.arange(64.0).view(1, 1, 8, 8))[:, -1], torch.tensor([27.0]))
    with pytest.raises(InputError, match="covers no half of any cell of the network's 2x2 maps; give a larger one"):
        OverMask(mask)(torch.zeros(1, 3, 2, 2))


def test_a_mask_by_file_is_shown_by_its_name() -> None:
    assert repr(OverMask("mask.png")) == "OverMask('mask.png')"


def test_a_mask_is_told_by_its_size_and_its_digits(tmp_path):
    assert repr(OverMask()) == "OverMask()"
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, 2] = True
    assert repr(OverMask(mask)).startswith("OverMask(<4x6, 1 cells inside, sha256 ")
    assert repr(OverMask(mask)) != repr(OverMask(mask.flip(0)))
