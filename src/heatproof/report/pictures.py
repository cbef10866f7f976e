"""Figures small enough to stand inside the page."""

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from heatproof.paths import read_file
from heatproof.report.style import CAPTION

WIDTH = 2200
"""The most pixels across: two per pixel of the page."""
QUALITY = 88
WIDE = 560
"""From this width on a figure takes the whole line, in pixels of the page."""
LONGEST = 600
"""The most characters of a caption."""


def embed_figure(path: Path) -> dict[str, Any] | None:
    """A PNG as a data address in WebP, with its caption and size; None where the file is damaged or no picture."""
    try:
        with Image.open(io.BytesIO(read_file(path)), formats=["PNG"]) as picture:
            description = picture.info.get(CAPTION)
            shrink = min(1.0, WIDTH / picture.width)
            size = max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))
            pixels = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # Pillow raises many kinds, among them SyntaxError for a broken PNG and one for decompression bombs
    except Exception:
        return None
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=QUALITY, method=4)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {
        "name": path.stem,
        # figures of version 0.1 have none
        "caption": description[:LONGEST] if isinstance(description, str) and description.strip() else path.stem,
        "source": source,
        # two pixels of the picture per pixel of the page
        "width": size[0] // 2,
        "height": size[1] // 2,
        "wide": size[0] // 2 > WIDE,
    }
