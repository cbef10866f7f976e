"""An explainer called as it lies about: photos in, an answer that shows itself out; what other packages' users type."""

import copy
import io
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image
from torch import nn

import heatproof as hp
from heatproof import catalog
from heatproof.errors import Remark
from networks import attending, photos, small

ATTENTION = ("attention_rollout", "chefer")
CHEAP: dict[str, dict[str, Any]] = {
    "smooth_grad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "rise": {"masks": 2},
    "occlusion": {"patch": 5, "stride": 5},
    "smoothed": {"n": 2},
    "median_of_noisy": {"n": 6},
    "sparsified": {"n": 12, "explainer": hp.SimpleGrad(), "keep": 0.5, "flat": 0.1, "confidence": 0.1},
    "certified_pixels": {"n": 12, "explainer": hp.SimpleGrad(), "tau": 0.5, "alpha": 0.9},
    "tangent": {"photos": "demo", "k": 2, "d": 1, "limit": 4},
}


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Types are not checked, as where the package is used."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (14, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "bars.png")
    return tmp_path / "bars.png"


@pytest.mark.parametrize("name", sorted(catalog.EXPLAINERS))
def test_every_explainer_takes_every_form_of_a_photo(name: str, photo: Path) -> None:
    explainer = catalog.EXPLAINERS[name](**CHEAP.get(name, {}))
    model = attending(dtype=torch.float32) if name in ATTENTION else small(dtype=torch.float32)
    if name == "cam":
        model = hp.Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), input_size=10)
    wanted = explainer(model, hp.open_photo(photo, model), 1)
    pixels = np.asarray(Image.open(photo))
    for form in (str(photo), photo, Image.open(photo), pixels, [photo], [pixels], pixels[None]):
        found = explainer(model, form, 1)
        torch.testing.assert_close(found.heatmaps, wanted.heatmaps)
        torch.testing.assert_close(found.logits, wanted.logits)
    two = explainer(model, [photo, Image.open(photo)], 1)
    torch.testing.assert_close(two.heatmaps, wanted.heatmaps.expand(2, -1, -1))
    assert two.seen is not None
    assert two.seen.names == ("bars.png", "bars.png")
    assert repr(two).count("bars.png: ") == 2


def test_tensors_go_through_as_they_are() -> None:
    model, images = small(), photos(2)
    seen: list[Any] = []

    @hp.settings
    class Kept:
        def __call__(self, model: nn.Module, images: Any, targets: Any = None) -> hp.Explanation:
            seen.append((images, targets))
            return hp.Explanation(images[:, 0], model(images), torch.tensor([1, 2]))

    targets = torch.tensor([1, 2])
    found = Kept()(model, images, targets)
    assert seen[0][0] is images
    assert seen[0][1] is targets
    assert found.seen is not None
    assert found.seen.images is images
    assert repr(found).splitlines()[0].startswith("0: bee (1), ")


def test_the_answer_of_an_explainer_is_that_of_explain(photo: Path) -> None:
    model = small(dtype=torch.float32)
    found = hp.GradCAM(relu=False)(model, photo, "cat")  # type: ignore[arg-type]
    told = hp.explain(model, photo, explainer=hp.GradCAM(relu=False), target="cat")
    assert torch.equal(found.heatmaps, told.heatmaps)
    assert repr(found) == repr(told)
    assert len(repr(found).splitlines()) == 2
    assert "(GradCAM(relu=False) of small at last: heatmaps 1x5x5)" in repr(found)
    a, b = (np.asarray(Image.open(io.BytesIO(one or b""))) for one in (found._repr_png_(), told._repr_png_()))
    assert (a == b).all()
    assert found.rows == told.rows
    assert found.table.equals(told.table)
    assert found.classes == told.classes == ["cat"]
    assert found.save(photo.with_name("map.png")).stat().st_size > 1000


def test_rows_table_and_page_of_an_explanation(photo: Path) -> None:
    model = small(dtype=torch.float32)
    found = hp.explain(model, [photo], target=["bee", "dog", "cat"])
    maps = hp.GradCAM()(model, hp.open_photo(photo, model).expand(3, -1, -1, -1), torch.tensor([1, 3, 2]))
    assert [row["target_name"] for row in found.rows] == ["bee", "dog", "cat"]
    for row, heatmap, logits in zip(found.rows, maps.heatmaps, maps.logits, strict=True):
        assert (row["minimum"], row["maximum"]) == pytest.approx((float(heatmap.min()), float(heatmap.max())))
        assert row["probability"] == pytest.approx(float(logits.softmax(0)[row["target"]]))
        assert row["prediction"] == int(logits.argmax())
        assert row["layer"] == "last"
        assert row["image"] == "bars.png"
    assert found.table["explainer"].to_list() == ["GradCAM()"] * 3
    assert len(found.answer) == 3
    assert found.answer[0].startswith("bars.png: bee (1), ")
    page = found._repr_html_()
    assert page.count("<img ") == 1
    assert page.count("<tr>") == 4
    assert "at last: heatmaps 3x5x5" in page


def test_a_name_of_a_photo_is_escaped() -> None:
    page = hp.explain(small(dtype=torch.float32), [np.zeros((9, 9, 3), np.uint8)], target="bee")
    object.__setattr__(page, "ids", ['<script>"'])
    assert "<script>" not in page._repr_html_()


def test_an_explanation_without_its_photos() -> None:
    model, images = small(dtype=torch.float32), photos(2, dtype=torch.float32)
    found = hp.GradCAM()(model, images)
    for other in (copy.copy(found), pickle.loads(pickle.dumps(found)), hp.Explanation(*found)):
        assert other.seen is None
        assert torch.equal(other.heatmaps, found.heatmaps)
        assert repr(other) == "Explanation(heatmaps=[2, 5, 5], logits=[2, 4], targets=[2])"
        assert other._repr_png_() is None
        with pytest.raises(hp.InputError, match="does not know its photos"):
            other.show()
    assert len(pickle.dumps(found)) < 5000  # neither the network nor the photos
    with pytest.raises(AttributeError, match=r"no attribute 'clamp'; its maps are a tensor, explanation\.heatmaps"):
        hp.normalise(found)  # type: ignore[arg-type]


def test_the_graph_of_an_attack_is_not_kept() -> None:
    model, pixels = small(), photos(1).requires_grad_()
    found = hp.GradCAM()(model, pixels * 1, create_graph=True)
    assert found.heatmaps.requires_grad
    assert found.seen is not None
    assert not found.seen.images.requires_grad
    assert "at last" in repr(found)
    assert found._repr_png_()


def test_a_bare_network_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    images = 4 * photos(1, dtype=torch.float32) - 2
    found = hp.GradCAM()(small(dtype=torch.float32).network, images, 2)
    assert "class 2, " in repr(found)
    assert "of Residual at last" in repr(found)
    shown: list[Any] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture.size))
    monkeypatch.setitem(sys.modules, "IPython", None)
    found.show()
    assert shown == [found.picture().size]


CALLS: dict[str, tuple[Any, type[Exception], str]] = {
    "a bare network": (lambda m, p: hp.GradCAM()(m.network, p), hp.ModelError, "is a bare network.*hp.Classifier"),
    "no such file": (lambda m, p: hp.GradCAM()(m, "none.jpg"), hp.InputError, "none.jpg cannot be read"),  # type: ignore[arg-type]
    "a folder": (lambda m, p: hp.GradCAM()(m, p.parent), hp.InputError, r"is a folder: hp\.explain\(model, "),
    "a dict": (lambda m, p: hp.GradCAM()(m, {}), hp.InputError, "takes images .* a photo .* got dict"),  # type: ignore[arg-type]
    "no photo": (lambda m, p: hp.GradCAM()(m, []), hp.InputError, "no photo in this list"),  # type: ignore[arg-type]
    "of a loader": (
        lambda m, p: hp.GradCAM()(m, (photos(2), torch.tensor([1, 2]))),  # type: ignore[arg-type]
        hp.InputError,
        "give images, labels",
    ),
    "two of three": (lambda m, p: hp.GradCAM()(m, photos(3), ["bee", 1]), hp.InputError, r"expected \[3\], got \[2\]"),
    "two of three told": (lambda m, p: hp.explain(m, photos(3), target=[1, 2]), hp.InputError, "expected 3, got 2"),
    "none of one": (lambda m, p: hp.GradCAM()(m, p, []), hp.InputError, "no class in this list"),
    "a tensor of two": (
        lambda m, p: hp.GradCAM()(m, p, torch.tensor([1, 2])),
        hp.InputError,
        r"expected \[1\], got \[2\]; of one photo a list of several classes",
    ),
    "targets": (lambda m, p: hp.explain(m, p, targets=2), hp.SpecError, "'targets'; it is called target here"),  # type: ignore[call-arg]
    "eps": (lambda m, p: hp.shift(m, p, eps=0.1), hp.SpecError, r"^hp\.shift has no setting 'eps'; .* epsilon here"),  # type: ignore[call-arg]
    "misspelt": (lambda m, p: hp.audit(m, p, explaner=1), hp.SpecError, "did you mean explainer"),  # type: ignore[call-arg]
    "num_classes": (lambda m, p: hp.Classifier(m.network, num_classes=4), hp.SpecError, "what the network puts out"),  # type: ignore[call-arg]
    "layer of pixels": (
        lambda m, p: hp.explain(m, p, explainer="rise()", layer="last"),
        hp.InputError,
        "for explainers that read a layer",
    ),
    "an attack of a model": (lambda m, p: hp.PGD()(m, photos(1)), hp.SpecError, r"\(hp\.misclassify\(model, labels"),
    "a network by name": (lambda m, p: hp.load(m.network), hp.ModelError, r"hp\.Classifier\(network"),
    "a name as network": (lambda m, p: hp.Classifier("resnet50"), hp.ModelError, r"hp\.load\(NAME\)"),  # type: ignore[arg-type]
    "classes by number": (lambda m, p: hp.Classifier(m.network, classes=4), hp.ModelError, "names in the order"),  # type: ignore[arg-type]
    "classes with gaps": (lambda m, p: hp.Classifier(m.network, classes={1: "a"}), hp.ModelError, "without gaps"),
    "mean and std apart": (lambda m, p: hp.Classifier(m.network, (0.4,), (1, 2, 3)), hp.ModelError, "of 1 channels"),
    "a generator": (lambda m, p: hp.shift(m, iter([p])), hp.InputError, "got list_iterator"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_work_is_said(name: str, photo: Path) -> None:
    call, kind, said = CALLS[name]
    with pytest.raises(kind, match=said):
        call(small(dtype=torch.float32), photo)


def test_pictures_are_data(photo: Path) -> None:
    model = small(dtype=torch.float32)
    wanted = hp.shift(model, [photo], epsilon=0.01).rows
    pixels = np.asarray(Image.open(photo))
    for form in (Image.open(photo), [Image.open(photo)], pixels, [pixels], pixels[None]):
        assert hp.shift(model, form, epsilon=0.01).rows == wanted
    fitted = (hp.open_photo(photo, model)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    label = [int(model(hp.open_photo(photo, model)).argmax())]
    assert hp.shift(model, (fitted[None], label), epsilon=0.01).rows[0]["top1"] == 1


def test_one_photo_many_times_is_said(photo: Path) -> None:
    with pytest.warns(Remark, match="of the 3 photos given, 2 are files that were given before; .* leaves 1"):
        found = hp.explain(small(dtype=torch.float32), [photo] * 3)
    assert len(found.heatmaps) == 1


def test_classes_of_photos_of_which_one_cannot_be_read(photo: Path) -> None:
    """The class of the photo that is left, and not several classes of it."""
    (photo.parent / "a.png").write_text("no image")
    found = hp.explain(small(dtype=torch.float32), [photo.parent / "a.png", photo], target=["bee", "dog"])
    assert found.classes == ["dog"]
    assert list(found.ids) == ["bars.png"]


def test_a_layer_is_named(photo: Path) -> None:
    model = small(dtype=torch.float32)
    found = hp.explain(model, photo, layer=model.network.left, explainer=hp.Smoothed(hp.GradCAM(), n=2))  # type: ignore[arg-type]
    assert found.layers == ("left",)
    wanted = hp.Smoothed(hp.GradCAM("left"), n=2)(model, photo)  # type: ignore[arg-type]
    assert torch.equal(found.heatmaps, wanted.heatmaps)


@pytest.mark.parametrize("many", [False, True])
def test_one_mean_is_of_one_channel(many: bool) -> None:
    """A network that takes any number of channels is not taken for one of three."""
    grey = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(2))
    model = hp.Classifier(grey, mean=(0.4,) * (6 if many else 1), input_size=8)
    assert model.channels == (6 if many else 1)


def test_one_mean_for_a_network_of_three_channels() -> None:
    network = small(dtype=torch.float32).network
    model, images = hp.Classifier(network, mean=(0.4,), std=(0.5,), input_size=10), photos(1, dtype=torch.float32)
    assert model.preprocessing.channels == 3
    alike = hp.Classifier(network, mean=0.4, std=torch.tensor(0.5), input_size=10)
    each = hp.Classifier(network, mean=np.full(3, 0.4), std=[0.5] * 3, input_size=10)
    torch.testing.assert_close(alike(images), each(images))
    torch.testing.assert_close(model(images), each(images))
    assert hp.Classifier(network, classes={1: "bee", 0: "ant"}).classes == ["ant", "bee"]


def test_a_default_layer_that_is_not_the_usual_one_is_said_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(3 if n == 0 else 4, 4, 3, stride=2, padding=1), nn.ReLU()) for n in range(4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    images = torch.rand(1, 3, 16, 16)
    model = hp.Classifier(network, input_size=16)
    with pytest.warns(Remark, match=r"at this size of image 3\.0 of Sequential puts out 1x1, so that .* layer is 2,"):
        found = hp.GradCAM()(model, images)
    assert "GradCAM() of Sequential at 2: heatmaps 1x2x2" in repr(found)
    assert found.rows[0]["layer"] == "2"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hp.GradCAM()(hp.Classifier(network, input_size=16), images)
        # a network that convolves a pooled vector is none of these
        pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten())
        hp.GradCAM()(hp.Classifier(pooled, input_size=16), images)


@pytest.mark.parametrize("name", ["guided grad-cam", "Guided Grad-CAM", "guided-gradcam", "smooth grad", "score cam"])
def test_spellings_are_read(name: str) -> None:
    assert hp.explain(small(dtype=torch.float32), photos(1, dtype=torch.float32), explainer=name).answer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("saliency", "'saliency'; it is called simple_grad() here"),
        ("vanilla gradient", "'vanilla gradient'; it is called simple_grad() here"),
        ("gradient * input", "it is called input_x_gradient() here"),
        ("gradcam++(relu=Flase", "cannot be read"),
        ("deep taylor", "nearest to it is lrp(), "),
        ("deeplift", "nearest to it is integrated_gradients() or lrp(), "),
        ("lime", "nearest to it is rise() or occlusion(), "),
        ("Kernel SHAP", "nearest to it is rise() or occlusion(), "),
        ("gradcampp(relu=False)", "it is called gradcam_plus_plus() here"),
        ("smoothed(saliency())", "'saliency'; it is called simple_grad() here"),
        ("layercan", "did you mean layercam"),
    ],
)
def test_names_of_other_packages(name: str, said: str) -> None:
    with pytest.raises(hp.SpecError) as caught:
        hp.explain(small(dtype=torch.float32), photos(1, dtype=torch.float32), explainer=name)
    assert said in str(caught.value)


def test_what_is_named_instead_is_there() -> None:
    from heatproof import spec
    from heatproof.habits import AKIN, HERE_INSTEAD

    known = {**catalog.EXPLAINERS, **catalog.CONTROLS, **catalog.METRICS}
    for text, public in HERE_INSTEAD.values():
        made = spec.build(text, known)
        assert not public or isinstance(made, getattr(hp, public.partition("(")[0]))
    for _, texts in AKIN.values():
        for text in texts.split(" or "):
            spec.build(text, known)


def test_element_wise_is_layer_cam_and_not_hirescam() -> None:
    """pytorch-grad-cam's GradCAMElementWise: ReLU of each gradient times activation, then the sum over channels."""
    from heatproof.habits import instead_of

    assert instead_of("GradCAMElementWise", catalog.EXPLAINERS) == "it is called layercam() here"
    torch.manual_seed(0)
    body, head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Linear(4 * 36, 3)
    network = nn.Sequential(body, nn.Flatten(), head).eval()
    model = hp.Classifier(network, mean=(0, 0, 0), std=(1, 1, 1), input_size=8)
    images = torch.rand(2, 3, 8, 8)
    cells = body(images).detach().requires_grad_()
    (slope,) = torch.autograd.grad(head(cells.flatten(1))[:, 1].sum(), cells)
    wanted = (slope * cells).clamp(min=0).sum(1).detach()
    targets = torch.tensor([1, 1])
    torch.testing.assert_close(hp.LayerCAM(layer="0")(model, images, targets).heatmaps, wanted)
    assert not torch.allclose(hp.HiResCAM(layer="0")(model, images, targets).heatmaps, wanted)


def test_a_remark_points_at_the_line_of_the_user() -> None:
    with pytest.warns(Remark, match="is a bare network") as told:
        hp.GradCAM()(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), photos(1).float()
        )
    assert [one.filename for one in told if "bare network" in str(one.message)] == [__file__]


def test_what_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Saliency'; it is called hp\.SimpleGrad here"):
        _ = hp.Saliency  # type: ignore[attr-defined]
    for name, composite in (
        ("EpsilonGammaBox", "epsilon_gamma_box"),
        ("EpsilonPlus", "epsilon_plus"),
        ("EpsilonAlpha2Beta1", "alpha2beta1"),
    ):
        with pytest.raises(AttributeError, match=rf"it is called hp\.LRP\(composite='{composite}'\) here"):
            getattr(hp, name)
        assert hp.LRP(composite=composite).composite == composite
    with pytest.raises(AttributeError, match=r"called hp\.SimpleGrad here; zennit's, with a composite, is hp\.LRP"):
        _ = hp.Gradient  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'GradCam'; did you mean GradCAM"):
        _ = hp.GradCam  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'attribute'; an explainer is called, explainer\(model"):
        hp.GradCAM().attribute(photos(1), 3)  # type: ignore[attr-defined]
    found = hp.IntegratedGradients(steps=2).attribute(small(), photos(1), 3)
    assert found.values.shape == (1, 3, 10, 10)


def test_an_attack_takes_classes_by_name() -> None:
    model, images = small(), photos(2)
    by_name = hp.FGSM()(hp.misclassify(model, ["bee", "cat"]), images)
    assert torch.equal(by_name, hp.FGSM()(hp.misclassify(model, torch.tensor([1, 2])), images))
    assert torch.equal(hp.FGSM()(hp.reach(model, "dog"), images), hp.FGSM()(hp.reach(model, 3), images))
