"""Every kind of data name gives a verb the same photos, and what is wrong with one is a sentence."""

import io
from pathlib import Path

import fsspec
import polars as pl
import pytest
from PIL import Image

from command_line import heatproof
from heatproof.data.demo import photos

COUNT = 12


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The demo's first photos under several names."""
    folder = tmp_path_factory.mktemp("data")
    found = [(name, png(pixels), label) for name, pixels, label in photos(count=COUNT)]
    rows = {"name": [name for name, *_ in found], "img": [file for _, file, _ in found]}
    frame = pl.DataFrame(rows | {"digit": [label for *_, label in found]})
    frame.write_parquet(folder / "digits.parquet", row_group_size=5)
    (folder / "several").mkdir()
    frame[:7].write_parquet(folder / "several" / "a-0.parquet")
    frame[7:].write_parquet(folder / "several" / "a-1.parquet")
    store = fsspec.filesystem("memory")
    store.pipe_file("/digits/digits.parquet", (folder / "digits.parquet").read_bytes())
    for name, file, label in found:
        store.pipe_file(f"/digits/classes/{label}/{name}.png", file)
    chosen = "#image=img,label=digit,id=name"
    told = {
        "table": f"{folder / 'digits.parquet'}{chosen}",
        "tables": f"{folder / 'several'}/a-{{0..1}}.parquet{chosen}",
        "address": f"memory://digits/digits.parquet{chosen}",
        "folder at an address": "memory://digits/classes",
    }
    try:
        import datasets
    except ImportError:
        return told
    features = {"img": datasets.Image(), "digit": datasets.ClassLabel(num_classes=10), "name": datasets.Value("string")}
    data = datasets.Dataset.from_dict(
        {
            "img": [{"bytes": file, "path": None} for _, file, _ in found],
            "digit": frame["digit"].to_list(),
            "name": frame["name"].to_list(),
        },
        features=datasets.Features(features),
    )
    data.save_to_disk(folder / "saved")
    return told | {"huggingface": f"hf:{folder / 'saved'}{chosen}"}


def measured(out: Path, columns: list[str]) -> list[tuple]:
    table = pl.read_parquet(out / "images.parquet")
    return sorted(
        (image.rsplit("/", 1)[-1].removesuffix(".png"), *rest)
        for image, *rest in table.select("image", *columns).rows()
    )


def test_the_same_numbers_whatever_the_photos_lie_in(names: dict[str, str], tmp_path: Path) -> None:
    found = {}
    for kind, name in names.items():
        words = ["shift", name, "--model", "demo", "--epsilon", "0.01", "--batch-size", "6"]
        assert heatproof(*words, "--out", str(tmp_path / kind)) == 0
        found[kind] = measured(tmp_path / kind, ["label", "attack"])
    assert len(found["table"]) == 2 * COUNT
    assert all(rows == found["table"] for rows in found.values())
    assert [label for _, label, _ in found["table"]] == [int(name.split("-")[1]) for name, *_ in found["table"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["explain", "NAME", "--model", "demo"],
        ["evaluate", "demo", "NAME", "--metric", "aopc(region=16)"],
        ["audit", "demo", "NAME", "--budget", "37"],
        ["compare", "demo", "demo", "NAME"],
        ["fool", "NAME", "--model", "demo", "--penalty", "location()", "--steps", "2"],
        # a repair, which takes 50 photos at least, opens them as a fooling does
    ],
    ids=lambda words: words[0],
)
def test_every_verb_takes_them(words: list[str], names: dict[str, str], tmp_path: Path) -> None:
    for kind in ("table", "address"):
        told = [names[kind] if word == "NAME" else word for word in words]
        assert heatproof(*told, "--out", str(tmp_path / kind)) in (0, 1), kind
        assert (tmp_path / kind / "summary.json").is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://digits/gone.parquet", "there is nothing at memory://digits/gone.parquet"),
        ("memory://digits/digits.parquet", "columns of other names are chosen with digits.parquet#image=img"),
        (
            "memory://digits/digits.parquet#image=imgs",
            "lacks imgs and label: did you mean img? Its columns are name, img",
        ),
        ("memory://digits/digits.parquet#image=img,label=zzzz", "lacks zzzz: its columns are name, img"),
        ("hf:nosuch folder", "there is no data set 'nosuch folder'"),
        ("ftps3://digits", "ftps3://digits is an address of an unknown kind"),
    ],
)
def test_what_is_wrong_is_a_sentence(name: str, said: str, names, tmp_path: Path, capsys) -> None:
    assert heatproof("shift", name, "--model", "demo", "--out", str(tmp_path / "run")) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "Traceback" not in told


def test_a_data_set_in_the_run_folder_is_not_emptied(names: dict[str, str], tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    words = ["shift", names["table"], "--model", "demo", "--limit", "2"]
    assert heatproof(*words, "--out", str(run)) == 0
    for name in (f"hf:{run / 'figures'}#split=test", f"{run / 'figures'}/a-{{0..9}}.parquet#image=x"):
        again = ["shift", name, "--model", "demo", "--overwrite", "--out", str(run)]
        assert heatproof(*again) == 2
        assert "--overwrite would empty" in " ".join(capsys.readouterr().err.split())
        assert (run / "summary.json").is_file()
