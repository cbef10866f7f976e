"""A real browser for tests of pages: Chromium, which may ask nobody but the page itself."""

import os
import shutil
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install heatproof[browser]"
)
CHROMIUM = os.environ.get("HEATPROOF_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium"),
]
OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def opened():
    """The browser, until the end."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()


def until(page, expression, arg=None):
    """Ask again and again; Playwright's own waiting needs eval, which the pages' policies forbid."""
    for _ in range(400):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never came true: {expression}")
