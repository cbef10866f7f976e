"""Every kind of data name gives the photos and labels that lie there, in an order and under ids that stay."""

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from heatproof.data.listing import open_file, unique
from heatproof.data.shards import expand
from heatproof.data.sources import Source, limited, open_data, part_source
from heatproof.errors import InputError, Remark

CLASSES = ["cat", "red panda", "dog"]


def shown(source: Source) -> list[tuple[str, int, list[int]]]:
    """Id, label and colour of each photo that can be read."""
    return [(photo.id, photo.label, photo.image[:, 0, 0].tolist()) for photo in source]


def colour(path: Path) -> list[int]:
    with Image.open(path) as image:
        return list(image.getpixel((0, 0)))  # type: ignore[arg-type]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "png")
    return buffer.getvalue()


class TestFiles:
    def test_one(self, paint) -> None:
        path = paint("a.png")
        source = open_data(path)
        assert shown(source) == [("a.png", -1, colour(path))]
        assert (source.count, len(source), source.ids, source.labels) == (1, 1, ["a.png"], [-1])

    def test_several_keep_their_order_and_differ_by_folder(self, paint) -> None:
        paths = [paint("y/1.png"), paint("x/1.png"), paint("y/1.png")]
        with pytest.warns(Remark, match="of the 3 photos given, 1 are files that were given before; .* leaves 2"):
            source = open_data([str(path) for path in paths])
        assert shown(source) == [("y/1.png", -1, colour(paths[0])), ("x/1.png", -1, colour(paths[1]))]

    def test_a_folder_among_them(self, paint, tmp_path: Path) -> None:
        for name in ("a.png", "more/2.png", "more/1.png"):
            paint(name)
        assert open_data([tmp_path / "more", tmp_path / "a.png"]).ids == ["more/1.png", "more/2.png", "a.png"]

    def test_the_good_ones_are_still_done(self, paint, tmp_path: Path) -> None:
        good = paint("good.png")
        (tmp_path / "bad.png").write_bytes(b"")
        source = open_data([tmp_path / "bad.png", good, tmp_path / "gone.png"])
        for _ in range(2):  # what is skipped twice is noted once
            assert [photo.id for photo in source] == ["good.png"]
        assert source.skipped == [
            {"image": "bad.png", "reason": "cannot be read: the file is empty"},
            {"image": "gone.png", "reason": "cannot be read: there is no such file"},
        ]
        with pytest.raises(InputError, match=r"^cannot be read: the file is empty$"):
            source[0]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"there is no .*gone\.png; expected photos, a folder or a manifest"):
            open_data(tmp_path / "gone.png")
        with pytest.raises(InputError, match="no data was named"):
            open_data([])


class TestFolders:
    def test_flat_is_sorted_and_unlabelled(self, paint, tmp_path: Path) -> None:
        for name in ("b.png", "a10.png", "a2.PNG", "deep/er/c.png", ".hidden.png", ".cache/d.png"):
            paint(name)
        (tmp_path / "notes.txt").write_text("no photo")
        source = open_data(tmp_path, classes=CLASSES)
        assert source.ids == ["a10.png", "a2.PNG", "b.png", "deep/er/c.png"]
        assert source.labels == [-1] * 4
        assert source.skipped == []

    @pytest.mark.parametrize("names", [("cat", "Red_Panda"), ("0", "1"), ("n02121808", "n02509815"), ("CAT", "1")])
    def test_class_folders_by_name_number_and_wordnet_id(self, paint, tmp_path: Path, names) -> None:
        first, second, third = paint(f"{names[0]}/1.png"), paint(f"{names[1]}/in/2.png"), paint(f"{names[1]}/1.png")
        source = open_data(tmp_path, classes=["domestic cat" if names[0].startswith("n") else "cat", *CLASSES[1:]])
        wanted = {f"{names[0]}/1.png": (0, first), f"{names[1]}/1.png": (1, third), f"{names[1]}/in/2.png": (1, second)}
        assert shown(source) == [(name, label, colour(path)) for name, (label, path) in sorted(wanted.items())]

    def test_without_classes_folders_are_numbered(self, paint, tmp_path: Path) -> None:
        for name in ("zebra/1.png", "ant/1.png"):
            paint(name)
        source = open_data(tmp_path)
        assert (source.labels, source.classes) == ([0, 1], ["ant", "zebra"])

    def test_what_is_called_a_photo_and_is_none_is_named(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        os.mkfifo(tmp_path / "pipe.png")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s.jpg"))
        (tmp_path / "b.HEIC").write_bytes(b"x")
        (tmp_path / "c.jp2").write_bytes(b"x")
        source = open_data(tmp_path)
        assert source.ids == ["a.png"]
        assert source.skipped == [
            {"image": "b.HEIC", "reason": "HEIC is not read; save it as JPEG or PNG"},
            {"image": "c.jp2", "reason": "JPEG 2000 is not read; save it as JPEG or PNG"},
            {"image": "pipe.png", "reason": "it is a device or a pipe, not a file"},
            {"image": "s.jpg", "reason": "it is a device or a pipe, not a file"},
        ]
        source.fingerprint()

    def test_a_pipe_that_is_named_by_itself_is_never_opened(self, paint, tmp_path: Path) -> None:
        good = paint("a.png")
        os.mkfifo(tmp_path / "pipe.png")
        source = open_data([good, tmp_path / "pipe.png", tmp_path / ("x" * 300)])
        source.fingerprint()
        assert [photo.id for photo in source] == ["a.png"]
        assert [entry["reason"] for entry in source.skipped] == [
            "cannot be read: it is a device or a pipe, not a file",
            "cannot be read: the disk says File name too long",
        ]

    @pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no such file here")
    def test_a_file_that_fails_when_it_is_read(self, paint) -> None:
        source = open_data(["/proc/self/mem", paint("a.png")])
        assert len(list(source)) == 1
        assert source.skipped[0]["reason"].startswith("cannot be read: the disk says ")

    def test_what_is_named_is_text(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        (tmp_path / "caf\udce9.heic").write_bytes(b"x")
        assert [entry["image"] for entry in open_data(tmp_path).skipped] == ["caf\\udce9.heic"]

    def test_nothing_but_other_formats(self, tmp_path: Path) -> None:
        (tmp_path / "b.heic").write_bytes(b"x")
        with pytest.raises(InputError, match=r"no photo in .* can be read \(1 left out\): b\.heic: HEIC is not read"):
            open_data(tmp_path)

    def test_a_folder_is_counted_once_and_a_second_link_to_it_is_named(self, paint, tmp_path: Path) -> None:
        paint("cat/1.png")
        (tmp_path / "dog").symlink_to(tmp_path / "cat")
        (tmp_path / "cat" / "up").symlink_to(tmp_path)
        source = open_data(tmp_path, classes=CLASSES)
        assert source.ids == ["cat/1.png"]
        (entry,) = source.skipped
        assert entry == {"image": "dog", "reason": "it is the same folder as cat, whose photos are counted there"}

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
    def test_a_closed_folder_is_named(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        (tmp_path / "closed").mkdir(mode=0)
        (entry,) = open_data(tmp_path).skipped
        assert entry["image"] == "closed"
        assert "the folder cannot be read" in entry["reason"]

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "caf\udce9.png").write_bytes(png(3))
        source = open_data(tmp_path)
        assert shown(source) == [("caf\\udce9.png", -1, [3] * 3)]
        pl.DataFrame({"image": source.ids}).write_parquet(io.BytesIO())

    def test_a_folder_that_is_no_class_is_noted(self, paint, tmp_path: Path) -> None:
        for name in ("cat/1.png", "catt/1.png", "catt/2.png"):
            paint(name)
        source = open_data(tmp_path, classes=CLASSES)
        assert source.ids == ["cat/1.png"]
        (entry,) = source.skipped
        assert entry["image"] == "catt/"
        assert entry["reason"].startswith("'catt' is none of the model's 3 classes; did you mean cat?")
        assert entry["reason"].endswith("(photos left out: 2)")

    def test_no_folder_is_a_class(self, paint, tmp_path: Path) -> None:
        for name in ("train/red_pandda/1.png", "train/wolf/1.png"):
            paint(name)
        with pytest.raises(InputError, match=r"none of the 2 folders.*did you mean red panda\?.*WordNet"):
            open_data(tmp_path / "train", classes=CLASSES)
        assert open_data(tmp_path / "train", classes=CLASSES, labels=False).labels == [-1, -1]
        paint("train/dog/1.png")
        with pytest.raises(InputError, match=r"the class folders lie deeper: give .*train instead"):
            open_data(tmp_path, classes=CLASSES)

    def test_no_photo(self, tmp_path: Path) -> None:
        (tmp_path / "cat").mkdir()
        (tmp_path / "readme.md").touch()
        for name in (tmp_path, [tmp_path, tmp_path / "readme.md"]):
            with pytest.raises(InputError, match=r"no photo in .*expected files that end in .*\.jpg"):
                open_data(name, classes=CLASSES)

    def test_links_in_a_circle_end(self, paint, tmp_path: Path) -> None:
        paint("cat/1.png")
        (tmp_path / "cat" / "back").symlink_to(tmp_path, target_is_directory=True)
        assert open_data(tmp_path, classes=CLASSES).ids == ["cat/1.png"]


class TestManifests:
    def test_csv_by_number_name_and_wordnet_id(self, paint, tmp_path: Path) -> None:
        paths = [paint(f"photos/{place}.png") for place in range(6)]
        labels = ["2", "Red panda", "n02509815", "", "-1", " cat "]
        rows = [f"{label},photos/{place}.png,ignored" for place, label in enumerate(labels)]
        table = tmp_path / "labels.csv"
        table.write_text("\ufefflabel, path,note\n" + "\n".join(rows) + "\n", encoding="utf-8")
        source = open_data(table, classes=CLASSES)
        assert shown(source) == [
            (f"photos/{place}.png", label, colour(path))
            for place, (path, label) in enumerate(zip(paths, [2, 1, 1, -1, -1, 0], strict=True))
        ]
        assert open_data(table, classes=CLASSES, labels=False).labels == [-1] * 6

    @pytest.mark.parametrize(
        "labels", [[2, 0, None], [2.0, 0.0, float("nan")], ["dog", "cat", None], ["2", "0", "-1"], [2, 0, -1]]
    )
    def test_parquet(self, paint, tmp_path: Path, labels) -> None:
        for name in ("b.png", "a.png", "c.png"):
            paint(name)
        table = tmp_path / "labels.parquet"
        pl.DataFrame({"path": ["b.png", "a.png", str(tmp_path / "c.png")], "label": labels}).write_parquet(table)
        source = open_data(table, classes=CLASSES)
        assert (source.ids, source.labels) == (["b.png", "a.png", "c.png"], [2, 0, -1])
        assert source[2].image.shape == (3, 8, 8)

    def test_parquet_number_is_a_number_csv_text_may_be_a_name(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        digits = ["1", "0"]
        pl.DataFrame({"path": ["a.png"], "label": [1]}).write_parquet(tmp_path / "t.parquet")
        (tmp_path / "t.csv").write_text("path,label\na.png,1\n")
        assert open_data(tmp_path / "t.parquet", classes=digits).labels == [1]
        assert open_data(tmp_path / "t.csv", classes=digits).labels == [0]

    def test_a_path_twice(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        (tmp_path / "t.csv").write_text("path,label\na.png,0\na.png,1\n")
        assert open_data(tmp_path / "t.csv").ids == ["a.png", "a.png#2"]

    @pytest.mark.parametrize("kind", ["bytes", "struct"])
    def test_bytes_inside(self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from heatproof.data import encoded

        images = [png(shade) for shade in range(10)]
        images[3] = b"broken"
        column = images if kind == "bytes" else [{"bytes": content, "path": None} for content in images]
        table = tmp_path / "t.parquet"
        pl.DataFrame({"image": column, "label": [0, 1] * 5, "id": [f"n{place}" for place in range(10)]}).write_parquet(
            table
        )
        whole = open_data(table, classes=CLASSES)
        monkeypatch.setattr(encoded, "WHOLE", 0)
        monkeypatch.setattr(encoded, "BLOCK", 400)
        monkeypatch.setattr(encoded, "BLOCKS", 2)
        blocks = open_data(table, classes=CLASSES)
        expected = [(f"n{place}", place % 2, [place] * 3) for place in range(10) if place != 3]
        assert shown(whole) == shown(blocks) == expected
        assert whole.fingerprint() == blocks.fingerprint()
        assert [blocks[place].image[0, 0, 0].item() for place in (9, 0, 5)] == [9, 0, 5]
        assert whole.skipped == [
            {"image": "n3", "reason": "cannot be read: it is not an image, or its first bytes are damaged"}
        ]

    def test_bytes_without_ids_or_content(self, tmp_path: Path) -> None:
        table = tmp_path / "t.parquet"
        pl.DataFrame({"image": [png(1), None, *[png(2)] * 8], "label": [0] * 10}).write_parquet(table)
        source = open_data(table)
        assert source.ids[::9] == ["row-01", "row-10"]
        assert len(list(source)) == 9
        assert source.skipped == [{"image": "row-02", "reason": "cannot be read: the table holds no bytes for it"}]
        pl.DataFrame({"image": [1, 2], "label": [0, 0]}).write_parquet(table)
        with pytest.raises(InputError, match=r"column image of t\.parquet holds Int64: expected encoded photos"):
            open_data(table)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,class\na.png,1\n", r"t\.csv lacks path and label: expected the columns path .* got file, class"),
            ("path,labels\na.png,1\n", r"t\.csv lacks label"),
            ("path,label\n", r"t\.csv has no rows"),
            ("path,label\na.png,0\na.png,3\n", r"row 2 of t\.csv has the label '3': expected a number from 0 to 2"),
            ("path,label\na.png,-2\n", r"row 1 of t\.csv has the label '-2'"),
            ("path,label\na.png,pandda\n", r"row 1 of t\.csv: 'pandda' is none .* did you mean red panda\?"),
            ("path,label\n,1\n", r"t\.csv has no path in row 1"),
            ("path,label\nx.png,1\n", r"none of the 1 photos of t\.csv is there.*relative to the table's own folder"),
            ("path,label\na.png,1,2,3\n", r"t\.csv cannot be read as a table"),
            ("", r"t\.csv cannot be read as a table"),
        ],
    )
    def test_what_is_wrong_is_said(self, paint, tmp_path: Path, text: str, message: str) -> None:
        paint("a.png")
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            open_data(tmp_path / "t.csv", classes=CLASSES)

    def test_no_table(self, tmp_path: Path) -> None:
        for name in ("gone.csv", "gone.parquet", "text.parquet"):
            (tmp_path / "text.parquet").write_text("no parquet")
            with pytest.raises(InputError, match=f"{name} cannot be read as a table"):
                open_data(tmp_path / name)

    def test_columns_of_one_name_and_of_odd_types(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        (tmp_path / "t.csv").write_text("path, path ,label\na.png,a.png,1\n")
        with pytest.raises(InputError, match=r"t\.csv cannot be read as a table"):
            open_data(tmp_path / "t.csv", classes=CLASSES)
        for odd in ([[1], []], [b"\xff", b""]):
            pl.DataFrame({"id": odd, "image": [png(1), png(2)], "label": [0, 1]}).write_parquet(tmp_path / "t.parquet")
            with pytest.raises(InputError, match=r"t\.parquet cannot be read as a table"):
                open_data(tmp_path / "t.parquet", classes=CLASSES)

    def test_blank_last_lines_are_no_rows(self, paint, tmp_path: Path) -> None:
        paint("a.png")
        (tmp_path / "t.csv").write_text("path,label\na.png,1\n\n  \n,\n")
        assert open_data(tmp_path / "t.csv", classes=CLASSES).labels == [1]
        (tmp_path / "t.csv").write_text("path,label\na.png,1\n\na.png,1\n")
        with pytest.raises(InputError, match=r"t\.csv has no path in row 2"):
            open_data(tmp_path / "t.csv", classes=CLASSES)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards as WebDataset's own writer makes them; photo ``7`` has shade 7 and class 7 % 3."""
    from webdataset.writer import ShardWriter

    folder = tmp_path / "shards"
    folder.mkdir()
    with ShardWriter(str(folder / "s-%03d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(10):
            writer.write({"__key__": f"{number:04}", "png": png(number), "cls": number % 3, "json": b"{}"})
    return folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_expand_as_in_bash(pattern: str, names: list[str]) -> None:
    assert list(map(str, expand(pattern))) == names
    found = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True).stdout.split()
    assert found == names


def test_repetitions_are_numbered_past_the_numbers_that_are_taken() -> None:
    assert unique(["a", "b", "a", "a"]) == ["a", "b", "a#2", "a#3"]
    assert unique(["a", "a#2", "a", "a"]) == ["a", "a#2", "a#3", "a#4"]
    assert unique(["a", "a", "a#2"]) == ["a", "a#3", "a#2"]
    assert unique(["a#2", "a#2", "a", "a"]) == ["a#2", "a#2#2", "a", "a#3"]


class TestShards:
    def test_folder_braces_and_list_are_the_same(self, shards: Path) -> None:
        expected = [(f"s-{number // 4:03}/{number:04}", number % 3, [number] * 3) for number in range(10)]
        names = [shards / f"s-{number:03}.tar" for number in range(3)]
        for name in (shards, f"{shards}/s-{{000..002}}.tar", f"{shards}/s-00{{0,1,2}}.tar", names):
            source = open_data(name, classes=CLASSES)
            assert shown(source) == expected
            assert source.skipped == []
        assert [place.id for place in (source[9], source[0])] == ["s-002/0009", "s-000/0000"]

    def test_names_as_labels_and_photos_without(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "t.tar", "w") as archive:
            for name, content in {
                "./a/x.png": png(1),
                "./a/x.cls": b"Red_Panda\n",
                "y.PNG": png(2),
                "z.cls": b"0",
                "z.txt": b"no photo",
                "._y.png": b"no photo either",
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        assert shown(open_data(tmp_path / "t.tar", classes=CLASSES)) == [("t/a/x", 1, [1] * 3), ("t/y", -1, [2] * 3)]

    def test_damaged(self, shards: Path) -> None:
        last = shards / "s-001.tar"
        content = last.read_bytes()
        last.write_bytes(content[: len(content) // 2])
        source = open_data(shards, classes=CLASSES)
        assert source.ids[:5] == [f"s-000/{number:04}" for number in range(4)] + ["s-001/0004"]
        assert source.ids[-1] == "s-002/0009"
        # the tear is before the third photo and behind its label
        assert [entry["image"] for entry in source.skipped] == ["s-001/0006.cls", "s-001.tar"]
        assert "the archive is damaged after" in source.skipped[-1]["reason"]
        (shards / "s-002.tar").write_bytes(content[:20])  # it changes under the source's hands
        assert [photo.id for photo in source][-1] < "s-002"
        assert source.skipped[-1]["reason"] == "cannot be read: the archive is truncated"

    def test_no_archive(self, tmp_path: Path, shards: Path) -> None:
        with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
            archive.add(shards / "s-000.tar")
        (tmp_path / "empty.tar").touch()
        (tmp_path / "text.tar").write_text("hello" * 200)
        for name, message in {
            "t.tar.gz": "is no plain tar archive .* unpack it",
            "text.tar": "is no plain tar",
            "empty.tar": "is no plain tar|no photo in",
            "gone-{0..1}.tar": r"there is no archive .*gone-0\.tar",
        }.items():
            with pytest.raises(InputError, match=message):
                open_data(tmp_path / name)
        with pytest.raises(InputError, match=r"label of s-000/0002: '2' is none of the model's 2 classes"):
            open_data(shards, classes=["a", "b"])
        with pytest.raises(InputError, match="several names must be photos"):
            open_data([shards / "s-000.tar", tmp_path / "a.png"])


def archive_of(path: Path, entries: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class TestDamagedShards:
    """Ten photos with labels, damaged in one place: whatever is whole is read, and the loss is named."""

    @pytest.fixture
    def whole(self, tmp_path: Path) -> bytes:
        entries = [(f"{n:04}.{end}", png(n) if end == "png" else b"1") for n in range(10) for end in ("png", "cls")]
        return archive_of(tmp_path / "t.tar", entries).read_bytes()

    @pytest.mark.parametrize(
        ("begin", "end", "fill"),
        [(8 * 1024, 8 * 1024 + 512, 0), (8 * 1024 + 10, 8 * 1024 + 60, 255), (8 * 1024, 8 * 1024 + 1024, 0)],
        ids=["zeroed header", "overwritten header", "zeroed photo"],
    )
    def test_a_damaged_header_costs_one_photo(self, tmp_path: Path, whole: bytes, begin, end, fill) -> None:
        content = bytearray(whole)
        content[begin:end] = bytes([fill]) * (end - begin)
        (tmp_path / "t.tar").write_bytes(content)
        source = open_data(tmp_path / "t.tar", classes=CLASSES)
        assert [photo.id for photo in source] == [f"t/{n:04}" for n in range(10) if n != 4]
        orphan, damage = source.skipped
        assert orphan == {"image": "t/0004.cls", "reason": "there is a label and no photo"}
        assert damage["image"] == "t.tar"
        assert damage["reason"].startswith("the archive is damaged after 4 photos: from byte 8,192 to 9,216")

    def test_the_first_header(self, tmp_path: Path, whole: bytes) -> None:
        (tmp_path / "t.tar").write_bytes(bytes(512) + whole[512:])
        source = open_data(tmp_path / "t.tar")
        assert (len(source), [entry["image"] for entry in source.skipped]) == (9, ["t/0000.cls", "t.tar"])

    @pytest.mark.parametrize(
        ("length", "count", "named"),
        [
            (8 * 1024, 4, ["t.tar"]),  # at a header: only the end mark is missing
            (8 * 1024 + 300, 4, ["t.tar"]),  # in a header
            (8 * 1024 + 512 + 20, 4, ["t/0004.png", "t.tar"]),  # in a photo
            (9 * 1024 + 512, 4, ["t.tar", "t/0004"]),  # in the photo's label: it is not guessed
        ],
    )
    def test_a_torn_tail_is_named(self, tmp_path: Path, whole: bytes, length, count, named) -> None:
        (tmp_path / "t.tar").write_bytes(whole[:length])
        source = open_data(tmp_path / "t.tar")
        assert len(list(source)) == count
        assert [entry["image"] for entry in source.skipped] == named
        (damage,) = [entry["reason"] for entry in source.skipped if entry["image"] == "t.tar"]
        assert damage.startswith("the archive is damaged after ")

    def test_a_tail_of_zeros_as_a_power_cut_leaves_it(self, tmp_path: Path, whole: bytes) -> None:
        (tmp_path / "t.tar").write_bytes(whole[: 8 * 1024] + bytes(40_000))
        source = open_data(tmp_path / "t.tar")
        assert len(source) == 4
        (damage,) = source.skipped
        assert "its last 40,000 bytes are zeros, which is no archive's end" in damage["reason"]

    def test_archives_one_after_the_other_are_both_read(self, tmp_path: Path, whole: bytes) -> None:
        (tmp_path / "t.tar").write_bytes(whole + archive_of(tmp_path / "u.tar", [("u.png", png(7))]).read_bytes())
        source = open_data(tmp_path / "t.tar")
        assert len(list(source)) == 11
        assert "there are zeros" in source.skipped[0]["reason"]

    def test_a_repeated_key_is_numbered(self, tmp_path: Path) -> None:
        twice = [("a.png", png(1)), ("a.cls", b"0"), ("a.png", png(2)), ("a.cls", b"2")]
        source = open_data(
            archive_of(tmp_path / "t.tar", [*twice, ("b.jpg", png(3)), ("b.png", png(4)), ("b.cls", b"1")])
        )
        assert shown(source) == [("t/a", 0, [1] * 3), ("t/a#2", 2, [2] * 3), ("t/b", 1, [3] * 3), ("t/b#2", 1, [4] * 3)]
        assert source.skipped == []

    def test_labels_that_contradict_each_other_are_not_guessed(self, tmp_path: Path) -> None:
        source = open_data(
            archive_of(tmp_path / "t.tar", [("a.png", png(1)), ("a.cls", b"0"), ("a.cls", b"1"), ("b.png", png(2))])
        )
        assert source.ids == ["t/b"]
        assert source.skipped == [{"image": "t/a", "reason": "its key has 1 photos and 2 labels that differ"}]

    def test_a_second_dot_links_and_other_formats_are_named(self, tmp_path: Path) -> None:
        path = archive_of(
            tmp_path / "t.tar", [("a.v1.png", png(1)), ("b.png", png(2)), ("c.heic", b"x"), ("d.txt", b"x")]
        )
        with tarfile.open(path, "a") as archive:
            link = tarfile.TarInfo("e.png")
            link.type, link.linkname = tarfile.LNKTYPE, "b.png"
            archive.addfile(link)
        source = open_data(path)
        assert source.ids == ["t/b"]
        reasons = {entry["image"]: entry["reason"] for entry in source.skipped}
        assert list(reasons) == ["t/a.v1.png", "t/c.heic", "t/e.png"]
        assert reasons["t/a.v1.png"].startswith("a second dot in the name")
        assert reasons["t/c.heic"] == "HEIC is not read; save it as JPEG or PNG"
        assert reasons["t/e.png"] == "it is a link inside the archive, not a photo"

    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
    def test_long_names(self, tmp_path: Path, form: int) -> None:
        key = f"{'d' * 120}/{'é' * 150}"
        source = open_data(archive_of(tmp_path / "t.tar", [(f"{key}.png", png(1)), (f"{key}.cls", b"2")], form))
        assert shown(source) == [(f"t/{key}", 2, [1] * 3)]

    def test_a_long_name_that_reaches_for_all_memory(self, tmp_path: Path) -> None:
        path = archive_of(tmp_path / "t.tar", [("a.png", png(1)), ("b.png", png(2))])
        name = tarfile.TarInfo("x")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
        path.write_bytes(name.tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
        source = open_data(path)
        assert source.ids == ["t/a", "t/b"]

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        source = open_data(archive_of(tmp_path / "t.tar", [("caf\udce9.png", png(1))]))
        assert [photo.id for photo in source] == ["t/caf\\udce9"]

    def test_too_many_archives_are_refused_at_once(self, tmp_path: Path) -> None:
        for name in ("{0..20000000}.tar", "{0..999}-{0..999}.tar", "{" + "a," * 200_000 + "}.tar"):
            with pytest.raises(InputError, match="stands for more than 100,000 files"):
                open_data(f"{tmp_path}/{name}")
        assert expand("{9..0..4}-{b,{c,d}}.tar")[:4] == [
            "9-b.tar",
            "9-c.tar",
            "9-d.tar",
            "5-b.tar",
        ]
        for name in ("{a,b", "{" * 5000):
            with pytest.raises(InputError, match=r"cannot be read|there is no archive|stands for more"):
                open_data(f"{tmp_path}/{name}.tar")


class TestLimit:
    def test_one_from_each_stretch(self, paint, tmp_path: Path) -> None:
        for number in range(30):
            paint(f"{CLASSES[number // 10]}/{number:02}.png")
        everyone = open_data(tmp_path, classes=CLASSES)
        for seed in range(5):
            some = open_data(tmp_path, classes=CLASSES, limit=6, seed=seed)
            places = [everyone.ids.index(name) for name in some.ids]
            assert [place // 5 for place in places] == list(range(6))
            assert some.labels == [everyone.labels[place] for place in places]
            assert some.ids == open_data(tmp_path, classes=CLASSES, limit=6, seed=seed).ids
            assert shown(some) == [shown(everyone)[place] for place in places]
        assert len({tuple(open_data(tmp_path, limit=6, seed=seed).ids) for seed in range(5)}) > 1
        assert open_data(tmp_path, classes=CLASSES, limit=99).ids == everyone.ids
        with pytest.raises(InputError, match="limit must be a whole number, at least 1 photo, got 0"):
            open_data(tmp_path, limit=0)


class TestFingerprint:
    def test_it_changes_with_ids_labels_sizes_and_bytes_only(self, paint, tmp_path: Path) -> None:
        for number in range(3):
            paint(f"x/{CLASSES[number]}/{number}.png")
        first = open_data(tmp_path / "x", classes=CLASSES).fingerprint()
        assert len(first) == 64
        (tmp_path / "x").rename(tmp_path / "y")
        source = open_data(tmp_path / "y", classes=CLASSES)
        assert source.fingerprint() == source.fingerprint() == first
        assert open_data(tmp_path / "y", classes=CLASSES[::-1]).fingerprint() != first
        assert open_data(tmp_path / "y", classes=CLASSES, limit=2).fingerprint() != first
        path = tmp_path / "y/cat/0.png"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        second = source.fingerprint()
        path.unlink()
        assert len({first, second, source.fingerprint()}) == 3

    def test_of_tables_and_shards(self, tmp_path: Path, shards: Path) -> None:
        table = tmp_path / "t.parquet"
        prints = set()
        for shade in (1, 2):
            pl.DataFrame({"image": [png(shade)], "label": [0]}).write_parquet(table)
            prints.add(open_data(table).fingerprint())
        prints.add(open_data(shards).fingerprint())
        prints.add(open_data(shards / "s-000.tar").fingerprint())
        assert len(prints) == 4


@pytest.mark.weights
class TestRealData:
    def test_imagenet_val(self, shared: Path) -> None:
        classes = [
            line.split(" ", 1)[1] for line in (shared / "data/imagenet_synset_words.txt").read_text().splitlines()
        ]
        source = open_data(shared / "data/imagenet-val/labels.csv", classes=classes, limit=20)
        table = pl.read_csv(shared / "data/imagenet-val/labels.csv")
        known = dict(table.select("path", "label").iter_rows())
        assert [photo.label for photo in source] == [known[name] for name in source.ids]
        assert source.skipped == []

    def test_class_folders(self, shared: Path) -> None:
        wnids = [line.split(" ", 1)[0] for line in (shared / "data/imagenet_synset_words.txt").read_text().splitlines()]
        source = open_data(shared / "data/imagenette2-160/val", classes=[str(number) for number in range(1000)])
        assert all(wnids[label] == name.split("/")[0] for name, label in zip(source.ids, source.labels, strict=True))

    def test_parquet_bytes(self, shared: Path) -> None:
        cifar10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        source = open_data(shared / "data/cifar10/train-50000.parquet", classes=cifar10, limit=100)
        for photo in source:
            assert photo.id.split("/")[0] == cifar10[photo.label]
            assert photo.image.shape == (3, 32, 32)
        assert source.skipped == []


def test_reading_draws_no_global_random_numbers(paint, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        paint(name)
    torch.manual_seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr] # noqa: NPY002
    list(open_data(tmp_path, limit=1, seed=3))
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr] # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_the_demo_is_found_by_name_and_matched_by_name() -> None:
    from heatproof.data import demo

    digits = [str(digit) for digit in range(10)]
    source = open_data("demo", classes=digits, limit=12)
    assert len(open_data("demo")) == 400
    assert len(open_data("demo/train")) == 2000
    known = {name: (pixels, label) for name, pixels, label in demo.photos(count=400)}
    for photo in source:
        pixels, label = known[photo.id]
        assert torch.equal(photo.image, pixels)
        assert photo.label == label
    assert open_data("demo", classes=digits[::-1], limit=12).labels == [9 - label for label in source.labels]
    with pytest.raises(InputError, match=r"the demo shows 0, 1, .*, which are no classes of this model"):
        open_data("demo", classes=[f"class {number}" for number in range(1000)])
    assert open_data("demo", classes=["cat"], labels=False, limit=3).labels == [-1] * 3


def test_devices_and_folders_in_an_archive_are_no_photos(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, kind in (
            ("pipe.png", tarfile.FIFOTYPE),
            ("disk.png", tarfile.BLKTYPE),
            ("folder.png", tarfile.DIRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
        member = tarfile.TarInfo("photo.png")
        member.size = len(png(9))
        archive.addfile(member, io.BytesIO(png(9)))
    source = open_data(tmp_path / "t.tar")
    assert shown(source) == [("t/photo", -1, [9, 9, 9])]
    told = {entry["image"]: entry["reason"] for entry in source.skipped}
    assert told == dict.fromkeys(["t/pipe.png", "t/disk.png"], "it is a device or a pipe, not a file")


def test_a_size_in_the_pax_header_is_the_members(tmp_path: Path) -> None:
    """Files of 8 GB and more have no size in the header itself."""
    content = png(5)
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"size": str(len(content)), "comment": "x"}
    head = member.tobuf(tarfile.PAX_FORMAT)
    (tmp_path / "t.tar").write_bytes(head + content.ljust(-(-len(content) // 512) * 512, b"\0") + bytes(1024))
    assert shown(open_data(tmp_path / "t.tar")) == [("t/a", -1, [5, 5, 5])]


def test_archives_that_hold_no_photos_or_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive_of(tmp_path / "text.tar", [("readme.md", b"x")])
    with pytest.raises(InputError, match=r"no photo in text\.tar: expected key\.jpg and key\.cls"):
        open_data(tmp_path / "text.tar")
    archive_of(tmp_path / "labels.tar", [("a.cls", b"1")])
    with pytest.raises(InputError, match=r"labels/a\.cls: there is a label and no photo"):
        open_data(tmp_path / "labels.tar")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        archive_of(tmp_path / folder / "s.tar", [("0.png", png(1))])
    with pytest.raises(InputError, match="1 ids occur twice, for archives of one name lie in several folders"):
        open_data(str(tmp_path / "{a,b}" / "s.tar"))

    def failing(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("heatproof.data.shards.members", failing)
    with pytest.raises(InputError, match=r"text\.tar cannot be read: Input/output error"):
        open_data(tmp_path / "text.tar")


def test_a_label_as_long_as_a_book_is_none(tmp_path: Path) -> None:
    archive_of(tmp_path / "t.tar", [("a.png", png(1)), ("a.cls", b"x" * 2000), ("b.png", png(2)), ("b.cls", b"0")])
    source = open_data(tmp_path / "t.tar")
    assert source.ids == ["t/b"]
    [told] = source.skipped
    assert told["reason"] == "its label has 2,000 bytes: expected a number, a class name or a WordNet id"


def test_an_archive_that_goes_away_costs_its_photos(tmp_path: Path) -> None:
    source = open_data(archive_of(tmp_path / "t.tar", [("a.png", png(1))]))
    (tmp_path / "t.tar").unlink()
    assert shown(source) == []
    [told] = source.skipped
    assert "cannot be read: No such file or directory" in told["reason"]


def test_a_folder_that_cannot_be_read_is_named(paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open/1.png", "shut/1.png"):
        paint(name)
    (tmp_path / "open" / "2.png").symlink_to(tmp_path / "gone.png")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = open_data(tmp_path)
    assert [image for image, _, _ in shown(source)] == ["open/1.png"]
    told = {entry["image"]: entry["reason"] for entry in source.skipped}
    assert told["shut"] == "the folder cannot be read: Permission denied (its photos are left out)"
    assert "there is no such file" in told["open/2.png"]  # a link that leads nowhere


def test_a_pipe_put_in_the_place_of_a_photo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "file").touch()
    as_before = os.stat(tmp_path / "file")
    held = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path, **_: as_before)
        with pytest.raises(InputError, match="it is a device or a pipe, not a file"):
            open_file(tmp_path / "a.png")
    assert len(os.listdir("/proc/self/fd")) == held


def test_numbers_of_unnamed_classes_must_be_the_models(paint, tmp_path: Path) -> None:
    for name in ("cats/1.png", "dogs/1.png"):
        paint(name)
    assert open_data(tmp_path, count=2).labels == [0, 1]
    with pytest.raises(InputError, match=r"has 2 classes \(cats, dogs, \.\.\.\), and the model has 10 without names"):
        open_data(tmp_path, count=10)


def test_a_share_set_aside_is_disjoint_and_of_the_size_asked_for(paint, tmp_path: Path) -> None:
    for number in range(10):
        paint(f"{number}.png")
    source = open_data(tmp_path)
    rest, aside = part_source(source, 0.3, seed=1)
    assert (len(rest), len(aside)) == (7, 3)
    assert sorted([*rest.ids, *aside.ids]) == source.ids
    assert part_source(source, 0.3, seed=1)[1].ids == aside.ids
    assert any(part_source(source, 0.3, seed=seed)[1].ids != aside.ids for seed in range(2, 6))
    with pytest.raises(InputError, match="10 images cannot be parted into 99% to train on and 1% to watch"):
        part_source(source, 0.01, seed=1)


def test_a_limit_below_one_photo_is_refused(paint) -> None:
    source = open_data(paint("a.png"))
    assert shown(limited(source, 1)) == shown(limited(source, None)) == shown(source)
    with pytest.raises(InputError, match="limit must be a whole number, at least 1 photo, got 0"):
        limited(source, 0)
