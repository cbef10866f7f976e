"""Pictures of report pages as readers meet them: narrow, wide, dark, printed.

``python scripts/screenshots.py OUT PAGE...``: each page, a run's ``report.html`` or any other, at 400 and 1280 pixels,
in dark colours and as its printed pages, whole. Chromium and ``pip install heatproof[browser]`` are needed; nothing is
asked of a network. A page that is wider than its window is named: a table may scroll, a page may not.
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("HEATPROOF_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WAYS = {"400": (400, "light"), "1280": (1280, "light"), "dark": (1280, "dark")}


def take(page: Page, file: Path, out: Path) -> list[str]:
    """The pictures of one page; what is odd about it in sentences."""
    odd = []
    name = file.parent.name if file.stem == "report" else file.stem
    for way, (width, colours) in WAYS.items():
        page.emulate_media(media="screen", color_scheme=colours)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(file.resolve().as_uri())
        page.wait_for_timeout(400)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            odd.append(f"{name} at {way}: {wide} pixels wide")
        page.screenshot(path=out / f"{name}-{way}.png", full_page=True)
    page.emulate_media(media="print", color_scheme="light")
    page.pdf(path=out / f"{name}.pdf", format="A4", print_background=True)
    return odd


def main(out: Path, files: list[Path]) -> None:
    """Take them all."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for file in files:
            for line in take(page, file, out):
                print(line)
        for address in asked:
            if not address.startswith(("file:", "data:", "blob:")):
                print(f"asked for {address}")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
