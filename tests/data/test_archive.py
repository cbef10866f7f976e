"""Members of a tar archive, read without trust in its headers."""

import io
import tarfile
from pathlib import Path

import pytest

from heatproof.data.archive import BLOCK, Loss, Member, members


def written(file: Path, form: int, **headers: str) -> Path:
    with tarfile.open(file, "w", format=form, pax_headers=headers) as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return file


def named(path: Path) -> list[str]:
    return [entry.name if isinstance(entry, Member) else entry.reason for entry in members(path)]


def test_headers_for_the_whole_archive_name_no_member(tmp_path):
    assert named(written(tmp_path / "t.tar", tarfile.PAX_FORMAT, comment="made by hand", path="no.png")) == ["a.png"]


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (b"16 path=b/b.png\n", "b/b.png"),
        (b"15 path=b/b.png", "a.png"),  # no line's end
        (b"x6 path=b/b.png\n", "a.png"),  # no length
        (b"path=b/b.png\n", "a.png"),
        (b"2 path=b/b.png\n", "a.png"),  # shorter than itself
        (b"8 ab c?\n" + b"16 path=b/b.png\n", "b/b.png"),
        (b"9 a=b c\n\n" + b"16 path=b/b.png\n", "b/b.png"),
    ],
)
def test_damaged_records_of_a_name_are_left_out(tmp_path, records, name):
    header = tarfile.TarInfo("PaxHeaders/a.png")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    plain = written(tmp_path / "plain.tar", tarfile.USTAR_FORMAT).read_bytes()
    (tmp_path / "t.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(BLOCK, b"\0") + plain)
    assert named(tmp_path / "t.tar") == [name]


def test_blocks_that_only_look_like_headers_are_passed_over(tmp_path):
    plain = written(tmp_path / "plain.tar", tarfile.USTAR_FORMAT).read_bytes()
    alike = b"?" * 148 + b"012345\0 " + b"?" * (BLOCK - 156)  # a checksum's form, and a wrong one
    (tmp_path / "t.tar").write_bytes(b"?" * BLOCK + alike + plain)
    loss, member = members(tmp_path / "t.tar")
    assert isinstance(loss, Loss)
    assert (loss.begin, loss.end) == (0, 2 * BLOCK)
    assert (isinstance(member, Member) and member.name) == "a.png"
