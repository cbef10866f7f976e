"""What was found of the zoo, and that the docs say the same."""

from statistics import median

import pytest

from zoo.columns import MADE_BY, SAME
from zoo.families import NAMES, TIMM
from zoo.measure import ENOUGH
from zoo.table import PAGE, found, page, reason_of


def test_the_page_is_made_from_what_was_found() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "PYTHONPATH=src:tests python -m zoo.table"


@pytest.mark.zoo
def test_every_architecture_has_every_column() -> None:
    assert len(NAMES) >= 137
    assert len(TIMM.split()) >= 100
    wanted = {key for keys in MADE_BY.values() for key in keys}
    assert {name: wanted - row.keys() for name, row in found().items() if wanted - row.keys()} == {}


def test_nothing_is_wrong_and_no_error_is_ours() -> None:
    for name, row in found().items():
        for key, cell in row.items():
            assert cell.status in ("works", "refused", "cannot tell"), (name, key, cell)
            if cell.status == "works":
                # 0.9 is what was above it before it was rounded
                right = min(cell.rows, cell.cols) >= ENOUGH if cell.error is None else cell.error <= SAME
                assert right, (name, key, cell)
            if cell.status == "refused":
                assert reason_of(cell), (name, key)


def test_no_planted_fault_follows_the_square() -> None:
    """Where Grad-CAM works, rows read as columns, and channels last as first, are seen to be wrong."""
    for name, row in found().items():
        if "gradcam" in row and row["gradcam"].status == "works":
            controls = row["gradcam"].controls
            assert len(controls) == 2, name
            assert max(controls.values()) < 0.5, (name, controls)


def test_grad_cam_is_sensible_or_refused_on_nearly_all() -> None:
    cells = [row["gradcam"] for row in found().values() if "gradcam" in row]
    assert sum(cell.status in ("works", "refused") for cell in cells) >= 0.95 * len(cells)
    assert sum(cell.status == "works" for cell in cells) >= 0.85 * len(cells)


def test_lrp_explains_130_of_137() -> None:
    rows = [row for row in found().values() if "lrp" in row]
    works = sum(any(row[key].status == "works" for key in ("lrp", "attnlrp")) for row in rows)
    assert works >= 130 / 137 * len(rows)
    passes = [row["lrp"].passes for row in rows if row["lrp"].passes]
    assert median(passes) <= 3, "forward and backward passes of LRP's first call"
