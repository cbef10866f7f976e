"""Every architecture's default Grad-CAM follows the image, or is refused by name."""

from pathlib import Path

import pytest

from zoo.families import NAMES
from zoo.harness import judged

KEPT = Path(__file__).parents[2] / ".zoo.jsonl"
"""What was found before; the tests go on where they stopped."""
LOST = {"timm:levit_128s", "timm:levit_conv_128s"}
"""With random weights these networks lose the place themselves: their last stage has no way around its attention."""


@pytest.mark.zoo
@pytest.mark.parametrize("name", NAMES)
def test_the_default_map_follows_the_image_or_is_refused(name: str) -> None:
    (result,) = judged([name], KEPT)
    if name in LOST:
        assert result.status == "wrong"
        return
    assert result.status in ("works", "refused"), result
