"""Data at an address gives what it gives in a folder: the same ids, labels and pixels."""

import io
import os
import tarfile
from pathlib import Path

import fsspec
import polars as pl
import pytest
from PIL import Image

from data.web import Stretches, Whole, served
from heatproof.data import addresses
from heatproof.data.addresses import RemoteFile, at_address
from heatproof.data.batches import batches
from heatproof.data.encoded import tried
from heatproof.data.manifests import from_tables
from heatproof.data.sources import Source, open_data
from heatproof.errors import AddressError, InputError, Remark

pytest.importorskip("aiohttp", reason="addresses of the web need pip install heatproof[remote]")

CLASSES = ["cat", "red panda", "dog"]
COUNT = 12


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 6), shade).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos in a folder of classes, two shards, two Parquet files and two tables."""
    folder = tmp_path_factory.mktemp("store")
    for number in range(COUNT):
        file = folder / "classes" / CLASSES[number % 3] / f"p {number:02d}#.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    (folder / "classes" / "cat" / "notes.txt").write_text("no photo")
    (folder / "classes" / "cat" / "odd.heic").write_text("a photo that is not read")
    (folder / "shards").mkdir()
    for half in range(2):
        with tarfile.open(folder / "shards" / f"s-{half:03d}.tar", "w") as archive:
            for number in range(half * 6, half * 6 + 6):
                for suffix, content in ((".png", png(number)), (".cls", str(number % 3).encode())):
                    info = tarfile.TarInfo(f"{number:02d}{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    rows = pl.DataFrame(
        {"img": [png(n) for n in range(COUNT)], "fine": [CLASSES[n % 3] for n in range(COUNT)], "label": [0] * COUNT}
    )
    (folder / "tables").mkdir()
    for half in range(2):
        rows[half * 6 : half * 6 + 6].write_parquet(folder / "tables" / f"t-{half}.parquet", row_group_size=2)
    paths = [f"{CLASSES[n % 3]}/p {n:02d}#.png" for n in range(COUNT)]
    table = pl.DataFrame(
        {"path": [f"classes/{path}" for path in paths], "label": [CLASSES[n % 3] for n in range(COUNT)]}
    )
    table.write_csv(folder / "photos.csv")
    table.write_parquet(folder / "photos.parquet")
    return folder


def shown(source: Source) -> list[tuple[str, int, int]]:
    return [(photo.id, photo.label, int(photo.image[0, 0, 0])) for photo in source]


@pytest.fixture(scope="module")
def memory(root: Path) -> str:
    store = fsspec.filesystem("memory")
    for file in root.rglob("*"):
        if file.is_file():
            store.pipe_file(f"/store/{file.relative_to(root).as_posix()}", file.read_bytes())
    store.pipe_file("/store/broken.parquet", b"PAR1 and no more")
    return "memory://store"


NAMES = [
    "classes",
    "classes/cat",
    "shards",
    "shards/s-{000..001}.tar",
    "shards/s-001.tar",
    "tables#image=img,label=fine",
    "tables/t-{0..1}.parquet#image=img,label=fine",
    "tables/t-1.parquet#image=img",
    "photos.csv",
    "photos.parquet",
    "classes/cat/p 03%23.png",
]


def expected(root: Path, name: str) -> Source:
    return open_data(f"{root}/{name.replace('%23', '#')}", classes=CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_memory(name: str, root: Path, memory: str) -> None:
    source = open_data(f"{memory}/{name.replace('%23', '#')}", classes=CLASSES)
    assert shown(source) == shown(expected(root, name)) != []
    assert [entry["image"] for entry in source.skipped] == [entry["image"] for entry in expected(root, name).skipped]
    assert source.fingerprint() == open_data(f"{memory}/{name.replace('%23', '#')}", classes=CLASSES).fingerprint()


@pytest.mark.parametrize("name", NAMES)
def test_the_web(name: str, root: Path) -> None:
    with served(root) as (address, _):
        source = open_data(f"{address}/{name}", classes=CLASSES)
        assert shown(source) == shown(expected(root, name)) != []
        assert [entry["image"] for entry in source.skipped] == [
            entry["image"] for entry in expected(root, name).skipped
        ]


@pytest.mark.parametrize("name", ["shards/s-001.tar", "tables/t-1.parquet#image=img", "classes"])
def test_a_server_that_hands_out_no_stretches(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heatproof.data.addresses.LARGE", 0)
    with served(root, Whole) as (address, asked):
        if name == "classes":
            source = open_data(f"{address}/{name}", classes=CLASSES)
        else:
            with pytest.warns(Remark, match="hands out no parts of files: all .*of it is copied here first"):
                source = open_data(f"{address}/{name}", classes=CLASSES)
        assert shown(source) == shown(expected(root, name))
        for path in {path for verb, path, _ in asked if verb == "GET" and path.endswith((".tar", ".parquet"))}:
            assert sum((verb, own) == ("GET", path) for verb, own, _ in asked) <= 3


def test_a_refusal_of_a_small_file_comes_alone(root: Path, recwarn: pytest.WarningsRecorder) -> None:
    """A server without stretches: what is wrong with a small file is said, and not that it was copied."""
    with served(root, Whole) as (address, _):
        for _ in range(2):
            with pytest.raises(InputError, match="lacks an image column"):
                open_data(f"{address}/tables/t-1.parquet", classes=CLASSES)
    assert [str(warning.message) for warning in recwarn] == []


def test_that_a_large_file_is_copied_is_told_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr("heatproof.data.addresses.LARGE", 1)
    with served(root, Whole) as (address, _):
        for _ in range(2):
            with pytest.raises(InputError, match="lacks an image column"):
                open_data(f"{address}/tables/t-1.parquet", classes=CLASSES)
    assert [str(warning.message) for warning in recwarn] == [
        "the server of t-1.parquet hands out no parts of files: all 0 MiB of it is copied here first"
    ]


def test_of_a_large_table_the_footer_and_the_blocks_in_use_are_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = [os.urandom(100_000) for _ in range(40)]
    noise[30] = png(77)
    pl.DataFrame({"image": noise, "label": [0] * 40}).write_parquet(tmp_path / "large.parquet", row_group_size=5)
    monkeypatch.setattr("heatproof.data.encoded.WHOLE", 0)
    monkeypatch.setattr("heatproof.data.encoded.BLOCK", 500_000)
    with served(tmp_path) as (address, asked):
        source = open_data(f"{address}/large.parquet")
        assert int(source[30].image[0, 0, 0]) == 77
        spans = [span.removeprefix("bytes=").split("-") for verb, _, span in asked if verb == "GET" and span]
        read = sum(int(last) + 1 - int(first) if first else int(last) for first, last in spans)
        assert read < 2_000_000  # of four million


def test_threads_read_what_they_ask_for(memory: str) -> None:
    source = open_data(f"{memory}/classes", classes=CLASSES)
    images = [batch.images for batch in batches(source, 6, 4, workers=4)]
    order = [int(name.split("p ")[1][:2]) for name in source.ids]
    assert [round(float(image[0, 0, 0]) * 255) for batch in images for image in batch] == order


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("memory://nowhere/photos", "there is nothing at memory://nowhere/photos"),
            ("memory://nowhere/s-{000..002}.tar", r"there is no archive memory://nowhere/s-000\.tar"),
            ("memory://nowhere/t.parquet", r"there is nothing at memory://nowhere/t\.parquet"),
            ("memory://store/broken.parquet", r"memory://store/broken\.parquet cannot be read as a table: parquet"),
            ("memory://nowhere/t.csv", r"there is nothing at memory://nowhere/t\.csv"),
            ("nosuch://bucket/x", "nosuch://bucket/x is an address of an unknown kind"),
            ("https://me:secret@host/x.tar", "an address with a password in it is not read"),
            ("memory://store/classes#label=x", "has no label to choose with #label=...: nothing can be chosen there"),
            (
                "memory://store/tables/t-0.parquet",
                "lacks an image column: .* columns of other names are chosen with",
            ),
            ("memory://store/tables/t-0.parquet#image=imag", r"lacks imag: did you mean img"),
            ("memory://store/tables/t-0.parquet#image=img,label=fin", r"lacks fin: did you mean fine"),
            ("memory://store/tables/t-0.parquet#image=fine", r"the column fine of t-0\.parquet holds String: expected"),
            ("memory://store/tables/t-0.parquet#imag=img", "chooses 'imag', which is no choice: did you mean image"),
            ("memory://store/tables/t-0.parquet#image=", "says image= and nothing behind it"),
            ("memory://store/tables/t-0.parquet#split=test", "has no split to choose with"),
        ],
    )
    def test_is_said(self, name: str, message: str, memory: str) -> None:
        with pytest.raises(InputError, match=message):
            open_data(name, classes=CLASSES)

    def test_a_package_that_is_not_there(self) -> None:
        if "s3fs" in fsspec.available_protocols() or _has("s3fs"):
            pytest.skip("s3fs is here")
        with pytest.raises(InputError, match="s3:// is read by a package that is not here: Install s3fs"):
            open_data("s3://bucket/photos")

    def test_addresses_and_files_together(self, root: Path, memory: str) -> None:
        with pytest.raises(InputError, match="several names must all be addresses, or none"):
            open_data([f"{memory}/classes/cat/p 00#.png", str(root / "photos.csv")])

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(addresses, "PAUSE", 0.0)
        with pytest.raises((InputError, AddressError), match=r"127\.0\.0\.1:9/x\.tar"):
            open_data("http://127.0.0.1:9/x.tar")

    def test_a_store_that_says_no_length(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = fsspec.filesystem("memory")
        monkeypatch.setattr(store, "info", lambda path: {"name": path, "type": "file", "size": None})
        with pytest.raises(InputError, match="the server does not say how long memory://a/b is"):
            _ = RemoteFile("memory://a/b", store, "/a/b").size

    def test_keys_that_are_refused_are_not_asked_for_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store, asked = fsspec.filesystem("memory"), []

        def refuses(path: str, **_: object) -> bytes:
            asked.append(path)
            raise PermissionError("Forbidden")

        monkeypatch.setattr(store, "cat_file", refuses)
        with pytest.raises(
            AddressError, match=r"memory://a/b may not be read \(Forbidden\); give the keys as the store"
        ):
            RemoteFile("memory://a/b", store, "/a/b").read()
        assert asked == ["/a/b"]

    def test_an_address_that_its_store_cannot_make_anything_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def odd(text: str) -> None:
            raise RuntimeError("no such region\nand more of it")

        monkeypatch.setattr("fsspec.core.url_to_fs", odd)
        with pytest.raises(InputError, match=r"memory://a/b cannot be opened: no such region$"):
            at_address("memory://a/b")

    def test_a_table_whose_store_does_not_answer(self) -> None:
        place = RemoteFile("memory://a/t.parquet", fsspec.filesystem("memory"), "/a/t.parquet")

        def reset() -> None:
            raise ConnectionResetError("reset by peer")

        with pytest.raises(
            AddressError, match=r"t\.parquet cannot be read as a table: reset by peer; the same command"
        ):
            tried(place, reset)
        with pytest.raises(InputError, match=r"a/t\.csv cannot be read as a table: reset by peer$"):
            tried(Path("a/t.csv"), reset)

    def test_tables_that_name_files_are_not_joined(self, root: Path, tmp_path: Path) -> None:
        pl.DataFrame({"image": [png(1)], "label": [0]}).write_parquet(tmp_path / "t.parquet")
        with pytest.raises(InputError, match=r"photos\.parquet holds no photos but names files: give it by itself"):
            from_tables([tmp_path / "t.parquet", root / "photos.parquet"], CLASSES)

    def test_a_secret_is_remarked(self, root: Path) -> None:
        with served(root) as (address, _), pytest.warns(Remark, match="what stands after \\? is recorded"):
            open_data(f"{address}/shards/s-001.tar?token=1", classes=CLASSES)


def test_a_photo_that_is_gone_is_skipped_and_a_store_that_fails_stops(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "PAUSE", 0.0)
    store = fsspec.filesystem("memory")
    for number in range(3):
        store.pipe_file(f"/gone/{number}.png", png(number))
    source = open_data("memory://gone")
    store.rm_file("/gone/1.png")
    assert [photo.id for photo in source] == ["0.png", "2.png"]
    assert source.skipped == [{"image": "1.png", "reason": "there is nothing at memory://gone/1.png"}]

    asked: list[str] = []

    def fails(path: str, **_: object) -> bytes:
        asked.append(path)
        raise TimeoutError("no answer")

    monkeypatch.setattr(store, "cat_file", fails)
    with pytest.raises(AddressError, match=r"asked 3 times: no answer; .* then give the same command again"):
        list(batches(source, 6, 2))
    assert asked.count("/gone/0.png") == 3


def test_a_store_that_fails_in_the_middle_of_a_shard_stops(
    root: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "PAUSE", 0.0)
    store, source = fsspec.filesystem("memory"), open_data(f"{memory}/shards/s-000.tar", classes=CLASSES)

    def fails(path: str, *_: object, **__: object) -> bytes:
        raise TimeoutError("no answer")

    monkeypatch.setattr(store, "cat_file", fails)
    monkeypatch.setattr(store, "open", fails)
    # neither a damaged archive nor a photo to be left out
    for step in (lambda: list(source), lambda: open_data(f"{memory}/shards/s-001.tar", classes=CLASSES)):
        with pytest.raises(AddressError, match=r"shards/s-00\d\.tar cannot be read, asked 3 times: no answer"):
            step()


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def test_the_servers_of_these_tests_are_what_they_say(root: Path) -> None:
    file = "photos.csv"
    for kind, length in ((Stretches, 4), (Whole, (root / file).stat().st_size)):
        with served(root, kind) as (address, _):
            fs, path = fsspec.core.url_to_fs(f"{address}/{file}")
            assert len(fs.cat_file(path, start=3, end=7)) == length


def test_tables_of_several_kinds_are_refused(root: Path) -> None:
    tables = [path.as_posix() for path in sorted(root.iterdir()) if path.suffix == ".csv"][:1]
    photo = next((root / "classes").rglob("*.png")).as_posix()
    with pytest.raises(InputError, match="several names must be photos, or all be shards"):
        open_data([f"file://{name}" for name in (*tables, photo)], classes=CLASSES)
