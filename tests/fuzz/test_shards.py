"""Tar shards, damaged anywhere: what is whole is read, what is not is named, and nothing is lost between."""

import io
import tarfile

import numpy as np
import pytest
from tests.fuzz.hostile import archive, cases, damaged, judged, png, read_all
from tests.fuzz.tally import tried

pytestmark = pytest.mark.fuzz
FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
PHOTOS = 8


def entries(seed: int) -> list[tuple[str, bytes]]:
    draw = np.random.default_rng([5, seed])
    long = "d" * int(draw.integers(1, 80)) + "/" + "é" * int(draw.integers(0, 100) if seed % 3 else 0)
    told = []
    for number in range(PHOTOS):
        key = f"{long if seed % 2 else ''}{number:03}"
        told += [(f"{key}.png", png(number)), (f"{key}.cls", str(number % 3).encode()), (f"{key}.json", b"{}")]
    return told


def names_in(content: bytes) -> int:
    return sum(content.count(f"{number:03}.png".encode()) > 0 for number in range(PHOTOS))


@pytest.mark.parametrize("seed", cases(400))
def test_one_damaged_block(seed, tmp_path):
    """With one block of 512 bytes spoiled every photo is read, or named, or lies in a stretch that is named."""
    whole = archive(tmp_path / "t.tar", entries(seed), FORMS[seed % 2]).read_bytes()
    draw = np.random.default_rng([6, seed])
    block = int(draw.integers(len(whole) // 512)) * 512
    content = bytearray(whole)
    content[block : block + 512] = [bytes(512), draw.bytes(512), b"\xff" * 512][seed % 3]
    (tmp_path / "t.tar").write_bytes(content)
    with judged("shards, one block"):
        read, skipped = read_all(tmp_path / "t.tar", "shards, one block")
        missing = PHOTOS - len(read)
        assert 0 <= missing <= 1
        assert not missing or skipped


@pytest.mark.parametrize("seed", cases(400))
def test_torn_tail(seed, tmp_path):
    whole = archive(tmp_path / "t.tar", entries(seed), FORMS[seed % 3]).read_bytes()
    length = int(np.random.default_rng([7, seed]).integers(1, len(whole)))
    (tmp_path / "t.tar").write_bytes(whole[:length])
    with judged("shards, torn"):
        read, skipped = read_all(tmp_path / "t.tar", "shards, torn")
        # an archive that ends within its padding has lost nothing
        assert len(read) == PHOTOS or skipped


@pytest.mark.parametrize("seed", cases(400))
def test_damaged_anyhow(seed, tmp_path):
    path = archive(tmp_path / "t.tar", entries(seed), FORMS[seed % 3])
    path.write_bytes(damaged(path.read_bytes(), np.random.default_rng([8, seed])))
    with judged("shards, anyhow"):
        read, skipped = read_all(path, "shards, anyhow")
        content = path.read_bytes()
        filling = len(content) - len(content.rstrip(b"\0"))
        if len(read) < PHOTOS and not skipped:
            # zeros up to the end of the last record are what a whole archive of fewer photos looks like
            assert content[-1024:] == bytes(1024)
            assert filling < 512 + 1024 + 10240
            tried("photos", "shards, anyhow", "times the same as a whole archive of fewer")


@pytest.mark.parametrize("seed", cases(150))
def test_odd_members(seed, tmp_path):
    draw = np.random.default_rng([9, seed])
    path = tmp_path / "t.tar"
    odd = [
        "..png",
        "a.b.png",
        "/abs.png",
        "../up.png",
        "a\nb.png",
        "x" * 300 + ".png",
        "caf\udce9.png",
        ".png",
        "a.PNG",
        "a.png",
        "a.jp2",
        "a.cls",
        "b/",
        "b/.png",
        "é.cls",
        "é.png",
        "a..png",
        "[x].png",
        "~.png",
        "con.png",
        "\u202egnp.png",
    ]
    types = [tarfile.REGTYPE] * 6 + [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.DIRTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.CONTTYPE,
        b"V",
        b"Z",
    ]
    photos = 0
    with tarfile.open(path, "w", format=FORMS[seed % 3]) as tar:
        for _ in range(12):
            member = tarfile.TarInfo(odd[int(draw.integers(len(odd)))])
            content = png(seed) if not member.name.endswith(".cls") else str(int(draw.integers(5))).encode()
            member.type = types[int(draw.integers(len(types)))]
            member.size = len(content) if member.type in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
            member.linkname = "a.png"
            try:
                tar.addfile(member, io.BytesIO(content) if member.size else None)
            except ValueError:  # this form knows no long names
                continue
            stem = member.name.rpartition("/")[2].partition(".")[0]
            photos += (
                bool(stem) and member.name.casefold().endswith((".png", ".jp2")) and member.type != tarfile.DIRTYPE
            )
    with judged("shards, odd members"):
        try:
            read, skipped = read_all(path, "shards, odd members")
        finally:
            tried("photos", "shards, odd members", "written", photos)
        named = [entry for entry in skipped if not entry["image"].endswith((".cls", ".tar"))]
        assert len(read) + len(named) == photos


@pytest.mark.parametrize("seed", cases(150))
def test_names_with_braces(seed):
    draw = np.random.default_rng([10, seed])
    parts = [
        "{0..9}",
        "{000..999}",
        "{0..20000000}",
        "{a,b}",
        "{",
        "}",
        "{}",
        "{9..0}",
        "{,}",
        "{0..}",
        "..",
        "{-1..2}",
        "{a..z}",
        "x",
        "/",
        "*",
        "[a]",
        "\0",
    ]
    name = "".join(parts[int(draw.integers(len(parts)))] for _ in range(int(draw.integers(1, 7)))) + ".tar"
    with judged("shards, braces"):
        read_all(name, "shards, braces")
