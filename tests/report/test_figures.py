"""Figures: the same bytes for the same arrays, zero in the middle of signed maps, text that fits."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from heatproof.errors import InputError, RunError
from heatproof.report import Panel, amplify, explanation_grid, figures, gallery
from heatproof.report.overlay import Scale, as_photo, upsample
from heatproof.report.style import fit, palette, percent, save, styled, text_width


@pytest.fixture
def photo():
    return np.random.default_rng(0).uniform(size=(48, 64, 3))


@pytest.fixture
def maps():
    draw = np.random.default_rng(1)
    return [[np.abs(draw.normal(size=(7, 7))), draw.normal(size=(14, 14))] for _ in range(2)]


ROWS = [("tiger cat", 0.6), ("bull mastiff", 0.3)]


def sheets(monkeypatch):
    """The matplotlib figures that are about to be saved."""
    caught = []
    monkeypatch.setattr(figures, "save", lambda figure, path, pdf, caption: caught.append(figure) or path)
    return caught


def frames(figure):
    """Around each picture and bar."""
    return [artist for artist in figure.artists if isinstance(artist, Rectangle)]


def test_same_arrays_same_bytes_whatever_the_users_style(tmp_path, photo, maps):
    first = explanation_grid(photo, ROWS, ["a", "b"], maps, [False, True], tmp_path / "a.png", pdf=True)
    with mpl.rc_context({"font.size": 30, "image.cmap": "jet", "text.usetex": True}):
        second = explanation_grid(photo, ROWS, ["a", "b"], maps, [False, True], tmp_path / "b", pdf=True)
    assert second.name == "b.png"
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".pdf").read_bytes() == second.with_suffix(".pdf").read_bytes()
    told = Image.open(io.BytesIO(first.read_bytes())).info
    assert told.keys() <= {"dpi", "Description"}
    assert told["Description"] == "The photo, and in each column the map of a, b; a row per explained class."


def test_signed_maps_are_centred_on_zero():
    scale = Scale.of(np.array([[-1.0, 4.0]]), signed=True)
    assert scale.norm(0.0) == 0.5
    assert (scale.norm(-4.0), scale.norm(4.0)) == (0.0, 1.0)
    middle = scale.paint(np.zeros((1, 1)))[0, 0]
    assert np.ptp(middle) < 0.02  # white: no side is taken
    against, pro = scale.paint(np.array([[-4.0, 4.0]]))[0]
    assert against[2] > against[0]
    assert pro[0] > pro[2]
    assert Scale.of(np.array([[2.0, 4.0]]), signed=False).norm(0.0) == 0.0


def test_nothing_signed_or_unsigned_is_shown_where_a_map_is_zero(photo):
    under = np.full((1, 3), 0.5)
    painted = Scale.of(np.array([[-1.0, 0.0, 1.0]]), signed=True).paint(np.array([[-1.0, 0.0, 1.0]]), under)
    assert np.allclose(painted[0, 1], 0.5)


@pytest.mark.parametrize("nothing", [np.zeros((7, 7)), np.full((7, 7), np.nan)])
def test_empty_map_says_so(monkeypatch, tmp_path, photo, maps, nothing):
    caught = sheets(monkeypatch)
    explanation_grid(photo, ROWS[:1], ["a", "b"], [[nothing, maps[0][1]]], [False, True], tmp_path / "x.png")
    assert [text.get_text() for text in caught[0].texts].count("empty map") == 1
    # photo, two maps, and a bar for the one that holds something
    assert len(frames(caught[0])) == 4


def test_bars_state_raw_limits_and_no_text_meets_another(monkeypatch, tmp_path, photo):
    caught = sheets(monkeypatch)
    heat = np.zeros((7, 7))
    heat[2, 3] = 0.25
    name = "Chesapeake Bay retriever with a name that does not end soon enough $x$"
    rows = [(f"{name} {i}", 0.1) for i in range(6)]
    columns = [f'GradCAM(layer="features.denseblock4.denselayer{i}", relu=False)' for i in range(8)]
    maps = {(r, c): heat for r in range(6) for c in range(8)}
    explanation_grid(
        photo, rows, columns, maps, [False, True] * 4, tmp_path / "x.png", title=name, predictions=rows[:3]
    )
    figure = caught[0]
    texts = [text for text in figure.texts if text.get_text()]
    assert {"0.25", "\N{MINUS SIGN}0.25", "0"} <= {text.get_text() for text in texts}
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1 and box.y0 >= whole.y0 - 1 for box in boxes)
    panels = [frame.get_window_extent() for frame in frames(figure)]
    assert len(panels) == 6 * (9 + 8)
    # a line's box reaches a little beyond its letters
    small = [box.shrunk(0.98, 0.8) for box in boxes]
    for i, box in enumerate(small):
        assert not any(box.overlaps(other) for other in small[:i]), texts[i].get_text()
        assert not any(box.overlaps(panel) for panel in panels), texts[i].get_text()


def test_bilinear_matches_torch():
    torch = pytest.importorskip("torch")
    heat = np.random.default_rng(0).normal(size=(7, 5))
    ours = upsample(heat, 33, 40)
    theirs = torch.nn.functional.interpolate(torch.tensor(heat)[None, None], (33, 40), mode="bilinear")[0, 0]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    np.testing.assert_allclose(upsample(1e-200 * heat, 33, 40), 1e-200 * ours, rtol=1e-6)


def test_a_map_finer_than_its_panel_is_averaged():
    fine = np.zeros((400, 400))
    fine[::2] = 1.0  # every other row, of which sampling would show all or nothing
    assert np.abs(upsample(fine, 100, 100)[2:-2] - 0.5).max() < 0.05


def test_what_stands_in_the_png_is_what_was_painted(tmp_path):
    """Panels lie on whole pixels: nothing between the colours and the file."""
    photo = np.zeros((30, 30, 3))
    photo[..., 0] = 1.0
    heat = np.full((3, 3), 2.0)
    heat[0, 0] = 2.0 - 1e-9  # a map without any difference has no colours
    path = explanation_grid(photo, [("cat", 0.5)], ["map"], [[heat]], [False], tmp_path / "x.png")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    rows, cols = np.nonzero((pixels == [255, 0, 0]).all(2))
    assert (np.ptp(rows) + 1, np.ptp(cols) + 1) == pytest.approx((299, 299), abs=2)  # 1.5 inches, and a frame over it
    wanted = np.round(255 * Scale.of(heat, False).paint(heat[:1, :1], np.full((1, 1), 0.25 + 0.7 * 0.299)))[0, 0]
    right = pixels[rows.min() : rows.max(), cols.max() + 10 :].reshape(-1, 3)
    assert (np.abs(right.astype(int) - wanted).max(1) <= 1).sum() > 280**2


@pytest.mark.parametrize("heat", [np.full((3, 3), 2.0), np.full((1, 1), 2.0)])
def test_a_map_that_is_the_same_everywhere_has_no_colours(tmp_path, heat):
    photo = np.zeros((30, 30, 3))
    pixels = [
        np.asarray(Image.open(gallery([[Panel(photo, heatmap=given)]], tmp_path / name)).convert("RGB")).astype(int)
        for name, given in (("same.png", heat), ("other.png", np.eye(3)))
    ]
    coloured = [(np.ptp(picture, axis=2) > 30).sum() for picture in pixels]
    assert coloured[0] == 0
    assert coloured[1] > 100


def test_gallery_and_amplify(tmp_path, photo, maps):
    picture, factor = amplify(np.full((48, 64, 3), -0.01))
    assert factor == pytest.approx(50)
    assert picture.min() == 0
    assert amplify(np.zeros((2, 2, 3)))[1] == 1.0
    path = gallery(
        [
            [
                Panel(photo, caption="clean"),
                Panel(picture),
                Panel(photo, maps[0][0]),
                Panel(heatmap=maps[0][1], signed=True),
            ]
        ],
        tmp_path / "g.png",
        columns=["one"],
        rows=["$\\frac{x$ <b>"],
    )
    with Image.open(path) as picture:
        assert picture.size[0] > picture.size[1]


def test_wrong_input_is_named(tmp_path, photo, maps):
    path = tmp_path / "x.png"
    with pytest.raises(InputError, match="as many signs as columns"):
        explanation_grid(photo, ROWS, ["a", "b"], maps, [False], path)
    with pytest.raises(InputError, match=r"pixels in \[0, 1\], got \[-2"):
        explanation_grid(photo * 4 - 2, ROWS, ["a", "b"], maps, [False, True], path)
    with pytest.raises(InputError, match=r"photo \[rows, cols, channels\]"):
        as_photo(photo[..., 0])
    with pytest.raises(InputError, match="row 1 and column 0"):
        explanation_grid(photo, ROWS, ["a", "b"], maps[:1], [False, True], path)
    with pytest.raises(InputError, match=r"heatmap \[rows, cols\]"):
        gallery([[Panel(photo, np.zeros((1, 2, 2)))]], path)
    with pytest.raises(InputError, match="at least one panel"):
        gallery([], path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        explanation_grid(photo, ROWS, ["a", "b"], maps, [False, True], tmp_path / "file" / "x.png")


def test_text_fits_and_unknown_letters_are_marked():
    for text in ("features.denseblock4.denselayer16.conv2", "tiger cat, Tigerkatze", "x" * 80, "\u0001 \U000f0000", ""):
        lines = fit(text, 0.8, 7.5, lines=3).split("\n")
        assert len(lines) <= 3
        assert all(text_width(line, 7.5) <= 0.8 for line in lines)
    assert fit("one\ntwo", 5, 7.5) == "one\ntwo"
    assert (percent(0.9996), percent(0.0), percent(1e-9)) == ("100%", "0.0%", "< 0.1%")
    assert len(palette("RdBu_r", 65)) == 65


def test_a_large_photo_of_bytes_is_shrunk_and_keeps_its_shape():
    pixels = np.zeros((640, 1280, 3), np.uint8)
    pixels[:, 640:] = 255
    made = as_photo(pixels, longest=64)
    assert made.shape == (32, 64, 3)
    assert (made[:, 4:28].max(), made[:, 36:60].min()) == (0, 1)


def test_the_caption_is_a_text_of_the_png_where_there_is_one(tmp_path):
    for name, caption in (("with", "Maps of \ud800.png"), ("without", "")):
        styled(save)(Figure(figsize=(1, 1)), tmp_path / name, caption=caption)
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "without.png") as other:
        assert one.info["Description"] == "Maps of \\ud800.png"
        assert "Description" not in other.info
