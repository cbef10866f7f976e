"""Tables of photos: odd columns, encodings, gaps, line ends, enormous fields."""

import numpy as np
import polars as pl
import pytest
from tests.fuzz.hostile import cases, damaged, judged, png, read_all

pytestmark = pytest.mark.fuzz
HEADS = ["path", "label", "image", "id", " path ", "Path", "path,path", "", '"path"', "label\r", "\ufeffpath", "extra"]
CELLS = [
    "a.png",
    "b/c.png",
    "gone.png",
    "",
    " ",
    "0",
    "1",
    "cat",
    "-1",
    "1e9",
    "nan",
    "é.png",
    '"a.png"',
    '"a',
    "a\0.png",
    "../a.png",
    "/dev/zero",
    "/dev/stdin",
    "pipe.png",
    "x" * 70_000,
    "*.png",
    "~",
    "\u202e",
    "n01440764",
    "7" * 400,
    "null",
    "a.png\\",
    ".",
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "utf-8"]
ENDS = ["\n", "\r\n", "\r", "\n\n", "\n"]


@pytest.fixture
def photos(tmp_path):
    import os

    (tmp_path / "b").mkdir()
    for number, name in enumerate(("a.png", "b/c.png", "é.png")):
        (tmp_path / name).write_bytes(png(number))
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


@pytest.mark.parametrize("seed", cases(500))
def test_csv(seed, photos, canary):
    draw = np.random.default_rng([11, seed])
    pick = lambda choices: choices[int(draw.integers(len(choices)))]  # noqa: E731
    separator = "\t" if seed % 5 == 0 else ","
    heads = ["path", "label"] if seed % 2 else [pick(HEADS) for _ in range(int(draw.integers(0, 5)))]
    good = [["a.png", "0"], ["b/c.png", "1"]] if seed % 3 else []
    rows = [
        heads,
        *good,
        *([pick(CELLS) for _ in range(int(draw.integers(1, 4)))] for _ in range(int(draw.integers(6)))),
    ]
    text = pick(ENDS).join(separator.join(row) for row in rows) + pick(["", "\n", "\n\n", "\n,\n"])
    path = photos / ("t.tsv" if separator == "\t" else "t.csv")
    content = text.encode(pick(ENCODINGS), "replace")
    path.write_bytes(damaged(content, draw) if seed % 4 == 0 else content)
    with judged("manifests CSV"):
        read_all(path, "manifests CSV", classes=["cat", "dog", "é"] if seed % 2 else None, labels=bool(seed % 7))


@pytest.mark.parametrize("seed", cases(300))
def test_parquet(seed, photos, canary):
    draw = np.random.default_rng([12, seed])
    values = [
        [png(1), png(2), None],
        [{"bytes": png(1), "path": "a"}, {"bytes": None, "path": None}, None],
        ["a.png", "b/c.png", None],
        ["a.png", "", "gone.png"],
        [1, 2, 3],
        [1.0, float("nan"), float("inf")],
        [True, False, None],
        [[1], [], None],
        [None, None, None],
        ["x" * 100_000, "a.png", "a.png"],
        ["cat", "0", "dog"],
        [0, 1, -1],
        [-5, 2**40, 0],
        [b"cat", b"\xff", b""],
        [np.datetime64("2020-01-01").item()] * 3,
    ]
    heads = ["path", "label", "image", "id", "extra"]
    told = {head: values[int(draw.integers(len(values)))] for head in heads if draw.random() < 0.6}
    if seed % 3 == 0:
        told |= {"image": values[int(draw.integers(2))], "label": [0, 1, None]}
    path = photos / "t.parquet"
    pl.DataFrame(told, strict=False).write_parquet(path)
    if seed % 2:
        path.write_bytes(damaged(path.read_bytes(), draw))
    with judged("manifests Parquet"):
        read_all(path, "manifests Parquet", classes=["cat", "dog"] if seed % 5 else None, labels=bool(seed % 7))
