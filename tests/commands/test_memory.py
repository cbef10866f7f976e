"""Memory does not grow with the photos: each verb on many takes little more than on few."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
sys.stderr.write(done.stdout + done.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 7, stride=4, padding=3), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
"""
MAP = ["--explainer", "input_x_gradient()"]
"""A map as large as the photo."""
FOOL = ["--penalty", "location()", "--steps", "3", "--set", "evaluate_every=2"]
VERBS = {
    # few and many photos, pixels a side: what is kept of the photos between them would take 70 MiB at least
    "audit": (200, 1600, 96, ["audit", "NETWORK", "PHOTOS", "--budget", "37", *MAP]),
    "explain": (20, 200, 224, ["explain", "PHOTOS", "--model", "NETWORK", "--heatmaps", "--batch-size", "8", *MAP]),
    "evaluate": (50, 450, 224, ["evaluate", "NETWORK", "PHOTOS", *MAP, "--metric", "aopc(region=56)"]),
    # the working set is whole after some parts of 32 photos
    "shift": (300, 750, 224, ["shift", "PHOTOS", "--model", "NETWORK", "--epsilon", "0.05", *MAP]),
    "compare": (200, 800, 224, ["compare", "NETWORK", "NETWORK", "PHOTOS", *MAP]),
    "fool": (100, 1000, 160, ["fool", "PHOTOS", "--model", "NETWORK", *FOOL]),
}
MOST = 40
"""MiB between few and many; a fooling keeps its held-out photos, a tenth, as bytes."""


def peak(words: list[str]) -> float:
    """The most memory, in MiB, that ``heatproof WORDS`` took."""
    command = [sys.executable, "-c", PEAK, sys.executable, "-m", "heatproof", *words]
    # arenas of threads that came late, and how late, hold up to 50 MiB on a busy machine
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    # an audit of a network that nobody has trained cannot tell
    assert done.returncode == 0 or "cannot tell" in done.stderr, done.stderr[-3000:]
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is told in KiB by Linux alone")
@pytest.mark.parametrize("verb", VERBS)
def test_memory_does_not_grow_with_the_photos(verb: str, tmp_path: Path) -> None:
    few, many, size, words = VERBS[verb]
    (tmp_path / "net.py").write_text(NETWORK)
    for count in (few, many):
        for number in range(count):
            folder = tmp_path / str(count) / str(number % 4)
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number % 256, number // 256 * 40, 64 * (number % 4))).save(
                folder / f"{number}.png"
            )

    def measured(count: int) -> float:
        names = {"NETWORK": f"{tmp_path / 'net.py'}:build", "PHOTOS": str(tmp_path / str(count))}
        told = [names.get(word, word) for word in words]
        return peak([*told, "--input-size", str(size), "--out", str(tmp_path / f"out-{count}"), "--overwrite"])

    found = {count: measured(count) for count in (few, many)}
    if found[many] >= found[few] + MOST:  # what is kept of photos is kept every time, what a busy machine takes is not
        found = {few: max(found[few], measured(few)), many: min(found[many], measured(many))}
    assert found[many] < found[few] + MOST, found


ROWS = {
    "shift": ["shift", "PHOTOS", "--model", "NETWORK", "--epsilon", "0.05"],
    "audit": ["audit", "NETWORK", "PHOTOS", "--budget", "37"],
    "evaluate": ["evaluate", "NETWORK", "PHOTOS", "--explainer", "gradcam()", "--metric", "aopc(region=8)"],
}
FEW_ROWS, MANY_ROWS = 1_000, 10_000
MOST_OF_ROWS = 90
"""MiB between them; 22 to 36 were measured, and rows alone that are kept a few times over would take as much again."""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is told in KiB by Linux alone")
@pytest.mark.parametrize("verb", ROWS)
def test_memory_does_not_grow_with_the_rows_of_a_table(verb: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    noise = np.random.default_rng(0)
    found = {}
    for count in (FEW_ROWS, MANY_ROWS):
        photos = []
        for _ in range(count):
            file = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "png", compress_level=1)
            photos.append(file.getvalue())
        table = tmp_path / f"{count}.parquet"
        rows = pl.DataFrame({"photo": photos, "label": [place % 4 for place in range(count)]})
        rows.write_parquet(table, row_group_size=1000)
        names = {"NETWORK": f"{tmp_path / 'net.py'}:build", "PHOTOS": f"{table}#image=photo"}
        told = [names.get(word, word) for word in ROWS[verb]]
        more = ["--input-size", "16", "--batch-size", "250", "--out", str(tmp_path / f"out-{count}")]
        found[count] = peak([*told, *more])
    assert found[MANY_ROWS] < found[FEW_ROWS] + MOST_OF_ROWS, found
