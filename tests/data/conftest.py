"""Photos whose content tells which one they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Paint = Callable[..., Path]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Write a PNG of one colour, by default a colour that its name decides: ``paint("cats/1.png")``."""

    def _paint(name: str, colour: tuple[int, int, int] | None = None, size: tuple[int, int] = (8, 8)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if colour is None:
            red, green, blue = np.random.default_rng(list(name.encode())).integers(256, size=3).tolist()
            colour = red, green, blue
        Image.new("RGB", size, colour).save(path)
        return path

    return _paint
