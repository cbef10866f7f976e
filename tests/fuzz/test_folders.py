"""Folders with links, loops, pipes, sockets, devices, odd and unreadable names."""

import os
import socket

import numpy as np
import pytest
from tests.fuzz.hostile import cases, judged, png, read_all

from heatproof.data.folders import is_picture

pytestmark = pytest.mark.fuzz
NAMES = [
    b"a.png",
    b"b.JPG",
    b"caf\xe9.png",
    b"\xff\xfe.png",
    b"new\nline.png",
    b" .png",
    b"[x].png",
    b"~.png",
    b"*.png",
    b"-rf.png",
    b"a.heic",
    b"a.jp2",
    b"#2.png",
    b"a.png#2.png",
    "猫.png".encode(),
    "\u202egnp.png".encode(),
    b"x" * 240 + b".png",
    b".hidden.png",
    b"a.txt",
    b"a.png.txt",
    b"a.avif",
    b"$(touch x).png",
    b"'; ls.png",
    b"a\\b.png",
    b"{0..9}.png",
    b"%00.png",
    b"<img>.png",
    b"n01440764.png",
    b"7.tif",
]
FOLDERS = [b"cat", b"dog", b"0", b"1", b"c\xff", b"sub dir", b"[b]", b"..a", b"n01440764", b".hid", b"new\nline"]


def planted(root: bytes, seed: int) -> int:
    """A tree of odd files; how many of them are called photos, and are not hidden or behind a link."""
    draw = np.random.default_rng([13, seed])
    folders = [root]
    for _ in range(int(draw.integers(1, 6))):
        folder = os.path.join(folders[int(draw.integers(len(folders)))], FOLDERS[int(draw.integers(len(FOLDERS)))])
        os.makedirs(folder, exist_ok=True)
        folders.append(folder)
    count = 0
    for _ in range(14):
        folder = folders[int(draw.integers(len(folders)))]
        name = NAMES[int(draw.integers(len(NAMES)))]
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            continue
        match int(draw.integers(8)):
            case 0:
                os.mkfifo(path)
            case 1 if len(path) < 100:
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(path)
            case 2:
                os.symlink([b"/dev/zero", b"gone", b"/etc/passwd", b"a.png", name][int(draw.integers(5))], path)
            case 3:
                with open(path, "wb") as file:
                    file.write(bytes(int(draw.integers(50))))
            case _:
                with open(path, "wb") as file:
                    file.write(png(seed))
        within = os.path.relpath(folder, root).split(b"/")
        hidden = any(part.startswith(b".") and part != b"." for part in within)
        count += is_picture(os.fsdecode(name)) and not hidden
    for _ in range(int(draw.integers(3))):
        link = os.path.join(folders[int(draw.integers(len(folders)))], b"link%d" % draw.integers(3))
        target = folders[int(draw.integers(len(folders)))]
        # a hidden folder is no longer hidden behind a link
        if not os.path.lexists(link) and b"/." not in target:
            os.symlink(target, link)
    return count


@pytest.mark.parametrize("seed", cases(500))
def test_odd_trees(seed, tmp_path, canary):
    root = tmp_path / "data"
    root.mkdir()
    count = planted(os.fsencode(root), seed)
    with judged("folders"):
        read, skipped = read_all(root, "folders", labels=False)
        photos = [entry for entry in skipped if "the same folder as" not in entry["reason"]]
        assert len(read) + len(photos) == count
    with judged("folders of classes"):
        read, skipped = read_all(root, "folders of classes", classes=["cat", "dog"])
        if not any("photos left out" in entry["reason"] for entry in skipped):
            photos = [entry for entry in skipped if "the same folder as" not in entry["reason"]]
            assert len(read) + len(photos) == count


@pytest.mark.parametrize(
    "name",
    [
        "a\0b",
        "x" * 300,
        "x/" * 3000,
        "",
        " ",
        "~nobody",
        "\udcff",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
        "demo/x",
        ".",
    ],
)
def test_odd_names_of_data(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with judged("names of data"):
        read_all(name, "names of data")
    with judged("names of data"):
        read_all([name, "gone.png"], "names of data")
