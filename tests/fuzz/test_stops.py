"""Every verb, stopped at a write by a full disk, Ctrl-C or a kill: the same command ends as if it had not been."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from tests.command_line import heatproof
from tests.fuzz.broken import CASES
from tests.fuzz.tally import tried

from heatproof.results import whole

pytestmark = pytest.mark.fuzz

VERBS = {
    "explain": ["explain", "PHOTOS", "--model", "demo", "--batch-size", "2", "--heatmaps"],
    "shift": ["shift", "demo", "--model", "demo", "--limit", "4", "--epsilon", "0.05", "--batch-size", "2"],
    "audit": ["audit", "demo", "demo", "--limit", "12", "--budget", "37", "--batch-size", "6"],
    "compare": ["compare", "demo", "demo", "demo", "--limit", "4", "--explainer", "gradcam()", "--batch-size", "2"],
    "fool": ["fool", "demo", "--model", "demo", "--penalty", "location()", "--steps", "4", "--limit", "40"],
    "edit": ["fool", "demo", "--model", "demo", "--edit", "weight_edit(target='corner')", "--limit", "4"],
    "evaluate": [
        *("evaluate", "demo", "demo", "--limit", "6", "--batch-size", "2", "--explainer", "gradcam()"),
        *("--metric", "aopc(region=16)", "--metric", "sensitivity_max(samples=2)"),
    ],
}
FOOL = ["--batch-size", "8", "--set", "evaluate_every=1", "--set", "holdout=0.2"]
LASTING = ("seconds",)


KILLED = """
import os, sys
from heatproof import cli
from heatproof.results import whole

at, after, left, rename = int(sys.argv.pop(1)), sys.argv.pop(1) == "after", [0], os.replace

def replace(*names):
    left[0] += 1
    if left[0] == at and not after:
        os._exit(9)
    rename(*names)
    if left[0] == at:
        os._exit(9)

whole.os.replace = replace
cli.main()
"""


def photos(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for number in range(3):
        pixels = torch.randint(0, 255, (64, 64, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.byte().numpy()).save(folder / f"{number}.png")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def words_of(verb: str, folder: Path) -> list[str]:
    """The command line of a verb but for its ``--out``; photos, where it takes some, are made in the folder."""
    words = [str(photos(folder / "photos")) if word == "PHOTOS" else word for word in VERBS[verb]]
    return words + (FOOL if verb == "fool" else [])


def ended(folder: Path) -> dict:
    """What a run came to, but for the time it took."""
    summary = json.loads((folder / "summary.json").read_text())
    for row in summary["rows"]:
        for name in LASTING:
            row.pop(name, None)
    return {
        "status": json.loads((folder / "run.json").read_text())["status"],
        "table": pl.read_parquet(folder / "images.parquet").to_dicts(),
        "summary": json.dumps(summary),
        "figures": sorted(path.name for path in (folder / "figures").iterdir()),
        "page": (folder / "report.html").is_file(),
        "left": sorted(name for name in ("parts", "scratch", "checkpoint.pt") if (folder / name).exists()),
        "weights": sum(float(v.double().sum()) for v in load_file(folder / "model.safetensors").values())
        if (folder / "model.safetensors").exists()
        else None,
    }


@pytest.mark.parametrize("verb", list(VERBS))
def test_stopped_at_a_write(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    words = words_of(verb, tmp_path)
    rename, writes, stop_at, how = os.replace, 0, 0, ""

    def replace(*names: object) -> None:
        nonlocal writes
        writes += 1
        if writes == stop_at and how == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(*names)  # type: ignore[arg-type]
        if writes == stop_at and how == "interrupted":
            raise KeyboardInterrupt

    monkeypatch.setattr(whole.os, "replace", replace)
    # a fooled model is called as its folder
    assert heatproof(*words, "--out", str(tmp_path / "whole" / "out")) == 0
    expected, count = ended(tmp_path / "whole" / "out"), writes
    assert expected["page"]
    assert expected["left"] == []
    draw = random.Random(verb)
    # the last writes are those where a page was lost
    chosen = sorted({*draw.sample(range(1, count + 1), min(count, max(3, CASES // 8))), count, count - 1, count - 2})
    for at in chosen:
        how = draw.choice(["full", "killed before", "killed after", "interrupted"])
        out, stop_at, writes = tmp_path / "out", at, 0
        if how.startswith("killed"):
            told = [sys.executable, "-c", KILLED, str(at), how.split()[1], *words, "--out", str(out)]
            assert subprocess.run(told, check=False, capture_output=True).returncode == 9, (verb, at)
        else:
            assert heatproof(*words, "--out", str(out)) == (1 if how == "full" else 130), (verb, at)
        stop_at = 0
        assert heatproof(*words, "--out", str(out)) == 0, (verb, at, how)
        assert ended(out) == expected, (verb, at, how)
        shutil.rmtree(out)
        tried("runs stopped at a write", verb, how)
