"""A photo in, heatmaps and a picture out."""

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import heatproof as hp
from heatproof.data.photos import fit, read_photo
from heatproof.errors import Remark, RunError
from heatproof.explainers.random_map import RandomMap
from heatproof.results.reading import read_run
from networks import photos, small


@pytest.fixture(scope="module")
def demo() -> hp.Classifier:
    return hp.load("demo")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A wide photo of bars, whose left end is red."""
    pixels = np.zeros((40, 90, 3), np.uint8)
    pixels[:, :30, 0], pixels[10:20, 40:, 1] = 200, 255
    Image.fromarray(pixels).save(tmp_path / "bars.png")
    return tmp_path / "bars.png"


def test_every_way_to_hold_a_photo_is_the_same_photo(photo: Path, demo: hp.Classifier) -> None:
    pixels = np.asarray(Image.open(photo))
    wanted = fit(read_photo(photo), demo.preprocessing)[None]
    ways: list[Any] = [str(photo), photo, Image.open(photo), pixels, pixels / 255, torch.from_numpy(pixels.copy())]
    ways += [pixels.transpose(2, 0, 1), pixels[None]]
    for way in ways:
        torch.testing.assert_close(hp.open_photo(way, demo), wanted, rtol=0, atol=0)
    assert hp.open_photo(photo).shape == (1, 3, 40, 90)


def test_a_turned_picture_is_shown_upright(photo: Path) -> None:
    image = Image.open(photo)
    exif = image.getexif()
    exif[0x0112] = 6  # turn by a quarter
    image.save(photo.with_suffix(".jpg"), exif=exif)
    turned = hp.open_photo(Image.open(photo.with_suffix(".jpg")))
    assert turned.shape == (1, 3, 90, 40)
    torch.testing.assert_close(turned, hp.open_photo(photo.with_suffix(".jpg")), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("mode", "value"), [("L", 100), ("1", 1), ("CMYK", (0, 0, 0, 155)), ("F", 0.5), ("RGBA", (9, 9, 9, 0))]
)
def test_pictures_of_every_mode_are_read(mode: str, value: Any) -> None:
    got = hp.open_photo(Image.new(mode, (4, 3), value))
    level = {"L": 100 / 255, "1": 1.0, "CMYK": 100 / 255, "F": 128 / 255, "RGBA": 1.0}[mode]
    torch.testing.assert_close(got, torch.full((1, 3, 3, 4), level), rtol=0, atol=0.006)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.zeros((2, 3, 4, 5)), r"got the shape \[2, 3, 4, 5\]"),
        (np.full((4, 4), 3.0), r"must lie in \[0, 1\], got \[3, 3\]; divide"),
        (np.zeros((4, 4), np.int64), "of uint8, or of numbers in"),
    ],
)
def test_arrays_that_are_no_photo_are_refused(array: Any, wanted: str) -> None:
    with pytest.raises(hp.InputError, match=wanted):
        hp.open_photo(array)


def test_explain_is_the_explainer_on_the_fitted_photo(photo: Path, demo: hp.Classifier) -> None:
    found = hp.explain(demo, photo, explainer="gradcam(relu=False)", target="7")
    wanted = hp.GradCAM(relu=False)(demo, fit(read_photo(photo), demo.preprocessing)[None], torch.tensor([7]))
    torch.testing.assert_close(found.heatmaps, wanted.heatmaps, rtol=0, atol=0)
    torch.testing.assert_close(found.probabilities, wanted.logits.softmax(1)[:, 7])
    assert found.classes == ["7"]
    assert found.numpy().shape == tuple(wanted.heatmaps.shape)
    assert "bars.png: 7, " in repr(found)


def test_several_photos_and_a_class_for_each() -> None:
    model, images = small(), photos(3)
    found = hp.explain(model, images, target=["bee", 2, "dog"], batch_size=2)
    wanted = hp.GradCAM()(model, images, torch.tensor([1, 2, 3]))
    torch.testing.assert_close(found.heatmaps, wanted.heatmaps)
    assert found.classes == ["bee", "cat", "dog"]
    with pytest.raises(hp.InputError, match="expected 3, got 2"):
        hp.explain(model, images, target=["bee", "dog"])
    with pytest.raises(hp.InputError, match="has no class 'bea'; did you mean bee"):
        hp.explain(model, images, target="bea")


def test_the_picture_holds_the_photo_and_the_map() -> None:
    model, images = small(dtype=torch.float32), photos(2, dtype=torch.float32)
    one = hp.explain(model, images[:1], explainer=hp.GradCAM(relu=False))
    shown = Image.open(io.BytesIO(one._repr_png_()))
    other = Image.open(
        io.BytesIO(hp.explain(model, images[:1], explainer=hp.GradCAM(counterfactual=True))._repr_png_())
    )
    assert shown.size == other.size
    half = shown.width // 2
    a, b = np.asarray(shown, np.int16), np.asarray(other, np.int16)
    body = slice(shown.height // 3, 2 * shown.height // 3)
    assert (a[body, :half] == b[body, :half]).all()  # the photo is the same
    assert (a[body, half:] != b[body, half:]).any()  # the map is not
    both = Image.open(io.BytesIO(hp.explain(model, images, explainer=hp.GradCAM(relu=False))._repr_png_()))
    assert both.height > 1.7 * shown.height


def test_a_map_of_one_cell_is_said(demo: hp.Classifier) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    model = hp.Classifier(network, input_size=8)
    with pytest.warns(Remark, match="is 1x1"):
        found = hp.explain(model, torch.rand(1, 3, 8, 8), explainer=hp.GradCAM("1"))
    assert "1x1 says how much, not where" in repr(found)
    assert "1x1" not in repr(hp.explain(model, torch.rand(1, 3, 8, 8), explainer=hp.GradCAM("0")))


def test_explain_writes_a_run_folder_on_request(tmp_path: Path, photo: Path, demo: hp.Classifier) -> None:
    found = hp.explain(demo, [photo, Image.open(photo)], target=3, out=tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert len(list((tmp_path / "run" / "figures").glob("*.png"))) == 2
    assert "report.html" in repr(found)
    again = hp.explain(demo, [photo, Image.open(photo)], target=3, out=tmp_path / "run")
    assert torch.equal(again.heatmaps, found.heatmaps)
    named = hp.explain(demo, photo, target=3, out=tmp_path / "named")
    assert read_run(tmp_path / "named").record["settings"]["images"] == str(photo)
    torch.testing.assert_close(named.heatmaps, found.heatmaps[:1])


def test_a_picture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    found = hp.explain(small(dtype=torch.float32), photos(1, dtype=torch.float32))
    for name, words in (
        ("map.xyz", r"'map\.xyz' ends in no format of pictures; name it map\.png"),
        ("map", "'map' ends in no format"),
        ("map.psd", "cannot be written"),
        ("nodir/map.png", r"there is no folder .*nodir to write map\.png into"),
    ):
        with pytest.raises(hp.InputError, match=words):
            found.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
    for name in ("map.png", "map.JPG", "map.pdf"):
        assert found.save(tmp_path / name).stat().st_size > 1000


def test_a_run_folder_is_of_the_photos_that_were_asked_for(tmp_path: Path, demo: hp.Classifier) -> None:
    hp.explain(demo, "demo", limit=2, out=tmp_path / "run")
    assert hp.explain(demo, "demo", limit=2, out=tmp_path / "run").folder == tmp_path / "run"
    with pytest.raises(RunError, match="limit"):
        hp.explain(demo, "demo", limit=3, out=tmp_path / "run")
    images = hp.scenes(4, seed=0).images
    hp.explain(demo, images[:2], out=tmp_path / "tensors")
    with pytest.raises(RunError, match="holds the answer for other photos"):
        hp.explain(demo, images[2:], out=tmp_path / "tensors")


def test_it_is_shown_in_a_notebook_and_elsewhere_by_the_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    found, shown = hp.explain(small(dtype=torch.float32), photos(1, dtype=torch.float32)), []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture.size))
    monkeypatch.setitem(sys.modules, "IPython", None)
    found.show()
    assert shown == [found.picture().size]
    notebook, cell = ModuleType("IPython"), ModuleType("IPython.display")
    notebook.get_ipython = lambda: shown  # type: ignore[attr-defined]
    cell.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", cell)
    found.show()
    assert shown[1:] == [found]


def test_what_cannot_be_explained_is_named(tmp_path: Path, demo: hp.Classifier) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(hp.InputError, match=r"none of the 1 photo of .*a\.png could be read; a\.png: "):
        hp.explain(demo, tmp_path / "a.png")
    with pytest.raises(hp.InputError, match=r"shows one explainer, got 2; call it once for each"):
        hp.explain(demo, photos(1), explainer=["gradcam()", "lrp()"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("explainer", "told"), [(hp.EigenCAM(), True), (hp.Smoothed(RandomMap(), n=2), True), (hp.GradCAM(), False)]
)
def test_a_map_that_is_the_same_for_every_class_is_said_to_be(explainer, told: bool, demo: hp.Classifier) -> None:
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    found = explainer(demo, photo, torch.tensor([3, 8]))
    assert torch.equal(found.heatmaps[0], found.heatmaps[1]) == told
    assert ("asks no class: its map is the same for every class" in repr(found)) == told


def test_an_explanation_is_equal_to_itself_only(demo: hp.Classifier) -> None:
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    one, other = (hp.GradCAM()(demo, photo) for _ in range(2))
    assert one == one != other
    assert one.shown == one.shown != other.shown
    assert len({one, other, one.shown, other.shown}) == 4
