"""Runs as commands leave them, with names that try to break out."""

import numpy as np
import pytest

from heatproof.report import explanation_grid
from heatproof.results import Run, View, add_view, summarise

HOSTILE = "<img src=x onerror=alert(1)>.png"
HOSTILE_CLASS = "</script><script>alert(2)</script>"


def _blob(row, col, size=7):
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - row) ** 2 + (x - col) ** 2) / 4)


@pytest.fixture(scope="session")
def make_run():
    """``make_run(folder, images, views)``: a complete run of ``shift``; its worst image has the hostile name."""

    def make(folder, images=60, views=3, figure=True, settings=None):
        draw = np.random.default_rng(0)
        with Run.start(folder, command="shift", settings=settings or {"attack": "PGD()", "note": HOSTILE_CLASS}) as run:
            run.describe(
                model=[{"name": "demo", "sha256": "ab" * 32, "layer": "conv"}],
                data={"name": "digits", "count": images, "sha256": "cd" * 32},
            )
            rows = []
            for i in range(images):
                kept = i % 3 != 0
                rows.append(
                    {
                        "image": HOSTILE if i == 0 else f"val/{i % 7}/{i:05}.png",
                        "label": HOSTILE_CLASS if i == 0 else f"class {i % 5}",
                        "prediction_clean": "cat",
                        "prediction": "cat" if kept or i == 0 else "dog",
                        "explainer": "GradCAM()",
                        "confidence": float(draw.uniform()),
                        "nissim": 0.9 if i == 0 else None if i == 5 else round(0.6 * i / images, 4),
                    }
                )
            for row in rows[:views]:
                # left half red, right half blue, so that a wipe can be seen in the pixels
                photo = np.zeros((64, 64, 3), np.uint8)
                photo[:, :32, 0] = photo[:, 32:, 2] = 200
                maps = [
                    View(f"GradCAM conv · {name}", values, signed, condition)
                    for name, signed in (("cat", False), (HOSTILE_CLASS, True))
                    for condition, values in (("clean", _blob(1, 1)), ("adversarial", -_blob(5, 5) + 2 * _blob(1, 5)))
                ]
                add_view(run, row["image"], photo, maps, other_photo=photo[:, ::-1])
            run.append_rows(0, rows)
            table = run.merge()
            run.write_json(
                "summary.json",
                {
                    "rows": [row.plain() for row in summarise(table, ["explainer"], {"nissim": "mod"}, draws=200)],
                    "answer": [f"Maps moved, even of {HOSTILE}."],
                    "skipped": [{"image": HOSTILE, "reason": "truncated & <b>broken</b>"}],
                },
            )
            if figure:
                grid = draw.uniform(size=(32, 32, 3))
                explanation_grid(
                    grid, [("cat", 0.5)], ["Grad-CAM"], [[_blob(3, 3)]], [False], run.path("figures/one.png")
                )
        return folder

    return make
