"""Everything once, offline: the packaged network explained on scenes that it has never seen."""

from collections.abc import Callable
from typing import Any

from heatproof.audits.explain import STANDARD, draw_grid
from heatproof.data.scenes import scenes
from heatproof.explainers.together import explain_together
from heatproof.heatmaps import center_of_mass, is_empty, resize
from heatproof.models.classifier import fingerprint
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.results.run import Run

SHOWN, MEASURED = 4, 400


def run_demo(
    run: Run, *, seed: int = 0, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Explain digits in clutter and scenes with two digits; figures, a table and an answer in words."""
    model = hardware.host(load("demo"))
    run.describe(
        model=[{"name": model.name, "sha256": fingerprint(model), "layer": default_layer(model)}],
        data={"name": "demo scenes", "count": MEASURED, "sha256": None},
    )
    one, two = scenes(MEASURED, seed), scenes(SHOWN, seed, digits=2)
    answer = []

    grid = explain_together(model, hardware.bring(one.images), STANDARD)
    predictions = grid.targets[:, 0].cpu()
    accuracy = float((predictions == one.labels).float().mean())
    maps = resize(grid.heatmaps[0][:, 0].float(), (64, 64)).cpu()
    peaks = maps.flatten(1).argmax(1)
    rows, cols = peaks // 64, peaks % 64
    x1, y1, x2, y2 = one.boxes[:, 0].T
    hits = (cols >= x1) & (cols < x2) & (rows >= y1) & (rows < y2)
    answer.append(
        f"The network names {accuracy:.1%} of {MEASURED} digits in clutter, and the peak of its Grad-CAM lies "
        f"in the digit's box on {float(hits.float().mean()):.1%} of them."
    )
    say(answer[-1])
    for place in range(SHOWN):
        name = f"digit-{place}"
        draw_grid(run.path(f"figures/{name}.png"), model, one.images[place], STANDARD, grid, place, title=name)

    pairs = explain_together(model, hardware.bring(two.images), STANDARD, two.labels.to(hardware.place))
    for place in range(SHOWN):
        name = f"two-digits-{place}"
        draw_grid(run.path(f"figures/{name}.png"), model, two.images[place], STANDARD, pairs, place, title=name)
    answer.append("In scenes of two digits each digit's own map lies on that digit: see figures/two-digits-*.png.")
    say(answer[-1])

    centers = center_of_mass(grid.heatmaps[0][:, 0].float()).cpu()
    empty = is_empty(grid.heatmaps[0][:, 0]).cpu()
    confidence = grid.logits.float().softmax(1).amax(1).cpu()
    table = [
        {
            "image": f"digit-{i}",
            "label": int(one.labels[i]),
            "target": int(predictions[i]),
            "prediction": int(predictions[i]),
            "confidence": float(confidence[i]),
            "model": model.name,
            "explainer": repr(STANDARD[0]),
            "hit": bool(hits[i]),
            "empty": bool(empty[i]),
            "center_row": float(centers[i, 0]),
            "center_col": float(centers[i, 1]),
        }
        for i in range(MEASURED)
    ]
    run.write_parquet("images.parquet", table)
    summary = {
        "answer": answer,
        "rows": [{"model": model.name, "count": MEASURED, "top1": accuracy, "hit": float(hits.float().mean())}],
        "skipped": [],
    }
    run.write_json("summary.json", summary)
    return summary
