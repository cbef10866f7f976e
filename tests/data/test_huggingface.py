"""Data sets of HuggingFace, offline from folders: what the hub's repositories hold, and what ``save_to_disk`` wrote."""

import io
import json
import os
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from heatproof.data.chosen import Chosen
from heatproof.data.classes import named_indices
from heatproof.data.huggingface import _columns
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError

os.environ["HF_HUB_OFFLINE"] = "1"
datasets = pytest.importorskip("datasets", reason="data sets of HuggingFace need pip install heatproof[hf]")

NAMES = ["cat", "dog", "red panda"]
MODEL = ["red panda", "dog", "cat"]
LABELS = [0, 1, 2, 0, -1, 2]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 6), shade).save(buffer, "png")
    return buffer.getvalue()


def made(first: int = 0, **more: tuple[list[object], object]) -> "datasets.Dataset":
    rows = {"img": [{"bytes": png(first + n), "path": None} for n in range(6)], "label": LABELS}
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    for name, (values, feature) in more.items():
        rows[name], features[name] = values, feature
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A repository as the hub holds it: two splits in Parquet."""
    folder = tmp_path / "hub"
    for split, first in (("train", 100), ("test", 0)):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        made(first).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def shown(source: Source) -> list[tuple[str, int, int]]:
    return [(photo.id, photo.label, int(photo.image[0, 0, 0])) for photo in source]


ROWS = [("row-1", 2, 0), ("row-2", 1, 1), ("row-3", 0, 2), ("row-4", 2, 3), ("row-5", -1, 4), ("row-6", 0, 5)]
"""Numbers of the data set's names, in the classes of the model."""


class TestReads:
    def test_a_repository_of_the_hub(self, hub: Path) -> None:
        source = open_data(f"hf:{hub}#split=test", classes=MODEL)
        assert shown(source) == ROWS
        assert source.classes == MODEL
        again = open_data(f"hf:{hub}#split=test", classes=MODEL)
        assert source.fingerprint() == again.fingerprint()
        assert source.fingerprint() != open_data(f"hf:{hub}#split=train", classes=MODEL).fingerprint()

    def test_a_part_of_a_split(self, hub: Path) -> None:
        assert shown(open_data(f"hf:{hub}#split=test[:2]", classes=MODEL)) == ROWS[:2]

    def test_without_the_models_names_the_data_sets_numbers_stand(self, hub: Path) -> None:
        source = open_data(f"hf:{hub}#split=test")
        assert (source.labels, source.classes) == (LABELS, NAMES)

    @pytest.mark.parametrize("several", [False, True])
    def test_what_was_saved(self, several: bool, tmp_path: Path) -> None:
        data = datasets.DatasetDict({"test": made(), "train": made(9)}) if several else made()
        data.save_to_disk(tmp_path / "saved")
        name = f"hf:{tmp_path / 'saved'}" + ("#split=test" if several else "")
        assert shown(open_data(name, classes=MODEL)) == ROWS

    def test_class_folders(self, tmp_path: Path) -> None:
        for number, name in enumerate(NAMES):
            (tmp_path / "own" / name).mkdir(parents=True)
            (tmp_path / "own" / name / f"{number}.png").write_bytes(png(number))
        source = open_data(f"hf:{tmp_path / 'own'}", classes=MODEL)
        assert [(label, shade) for _, label, shade in shown(source)] == [(2, 0), (1, 1), (0, 2)]

    def test_columns_are_chosen(self, tmp_path: Path) -> None:
        more = {
            "mask": ([{"bytes": png(50 + n), "path": None} for n in range(6)], datasets.Image()),
            "coarse": ([1, 0, 1, 0, 1, 0], datasets.Value("int64")),
            "file": ([f"f{n}" for n in range(6)], datasets.Value("string")),
        }
        made(**more).save_to_disk(tmp_path / "saved")
        source = open_data(f"hf:{tmp_path / 'saved'}#image=mask,label=coarse,id=file", classes=MODEL)
        assert shown(source)[:2] == [("f0", 1, 50), ("f1", 0, 51)]
        with pytest.raises(
            InputError, match=r"has several columns for image, choose one with #image=\.\.\.: img, mask"
        ):
            open_data(f"hf:{tmp_path / 'saved'}")

    def test_the_same_file_as_a_table(self, hub: Path) -> None:
        table = hub / "data" / "test-00000-of-00001.parquet"
        assert shown(open_data(f"{table}#image=img", classes=MODEL)) == ROWS
        assert open_data(f"{table}#image=img").classes == NAMES

    def test_photos_without_labels(self, hub: Path) -> None:
        assert open_data(f"hf:{hub}#split=test", labels=False).labels == [-1] * 6

    def test_a_column_of_bytes(self, tmp_path: Path) -> None:
        made(raw=([png(30), None, *[png(30 + n) for n in range(2, 6)]], datasets.Value("binary"))).save_to_disk(
            tmp_path / "s"
        )
        source = open_data(f"hf:{tmp_path / 's'}#image=raw", classes=MODEL)
        assert shown(source)[:2] == [("row-1", 2, 30), ("row-3", 0, 32)]
        assert source.skipped == [{"image": "row-2", "reason": "cannot be read: the data set holds no bytes for it"}]

    def test_bars_are_drawn_on_a_screen_alone(self, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        datasets.enable_progress_bars()
        for screen in (True, False):
            monkeypatch.setattr("sys.stderr.isatty", lambda screen=screen: screen)
            open_data(f"hf:{hub}#split=test", classes=MODEL)
            assert datasets.are_progress_bars_disabled() is not screen

    def test_rows_that_cannot_be_decoded_are_skipped(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        gone = str(tmp_path / "gone.png")
        photos = [{"bytes": b"broken"}, {"bytes": None}, {"bytes": png(3)}, {"bytes": None, "path": gone}]
        kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        said = {"info": {"features": {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}}}
        rows = pyarrow.table({"image": pyarrow.array(photos, kind), "label": [0] * 4})
        (tmp_path / "s").mkdir()
        rows = rows.replace_schema_metadata({"huggingface": json.dumps(said)})
        pyarrow.parquet.write_table(rows, tmp_path / "s" / "train.parquet")
        source = open_data(f"hf:{tmp_path / 's'}")
        assert shown(source) == [("row-3", 0, 3)]
        assert [entry["reason"] for entry in source.skipped] == [
            "cannot be read: it is not an image, or its first bytes are damaged",
            "cannot be read: the data set holds no bytes for it",
            "cannot be read: No such file or directory",
        ]


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ("", r"has several splits, choose one with #split=\.\.\.: train, test"),
            ("#split=tset", "has no split 'tset': did you mean test"),
            ("#split=test,image=im", "has no column 'im': did you mean img"),
            ("#split=test,image=label", "the column label of .* holds ClassLabel.*: expected encoded photos"),
            ("#split=test,label=labl", "has no column 'labl': did you mean label"),
            ("#split=test,config=large", "has no configuration 'large': there are: default"),
            ("#split=test,path=x", "has no path to choose with #path"),
            ("#split=test[", "cannot be opened"),
        ],
    )
    def test_is_said(self, choice: str, message: str, hub: Path) -> None:
        with pytest.raises(InputError, match=message):
            open_data(f"hf:{hub}{choice}", classes=MODEL)

    def test_no_labels(self, tmp_path: Path) -> None:
        made(text=(["x"] * 6, datasets.Value("string"))).remove_columns("label").save_to_disk(tmp_path / "s")
        with pytest.raises(InputError, match=r"has no column of labels; choose one of img, text with #label=\.\.\."):
            open_data(f"hf:{tmp_path / 's'}")
        with pytest.raises(InputError, match=r"row 1 of hf:.*: 'x' is none of the model's 3 classes"):
            open_data(f"hf:{tmp_path / 's'}#label=text", classes=MODEL)

    def test_no_photos(self, tmp_path: Path) -> None:
        made().remove_columns("img").save_to_disk(tmp_path / "s")
        with pytest.raises(InputError, match="has no column of photos; label are its columns"):
            open_data(f"hf:{tmp_path / 's'}")

    def test_no_rows(self) -> None:
        # as the hub holds them: what save_to_disk writes of none cannot be opened
        with pytest.raises(InputError, match="hf:owner/name has no rows: expected one per photo"):
            _columns("owner/name", made().select([]), Chosen(), labels=True)

    def test_several_configurations(self, hub: Path) -> None:
        configs = "".join(f"- config_name: {name}\n  data_files: data/{name}-*.parquet\n" for name in ("train", "test"))
        (hub / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
        with pytest.raises(InputError, match=r"several configurations, choose one with #config=\.\.\.: train, test"):
            open_data(f"hf:{hub}", classes=MODEL)
        assert shown(open_data(f"hf:{hub}#config=test", classes=MODEL)) == ROWS

    def test_what_was_saved_by_itself_has_nothing_to_choose(self, tmp_path: Path) -> None:
        made().save_to_disk(tmp_path / "s")
        with pytest.raises(InputError, match="has no configurations to choose from"):
            open_data(f"hf:{tmp_path / 's'}#config=large", classes=MODEL)
        with pytest.raises(InputError, match="saved as a single split, and 'test' cannot be chosen"):
            open_data(f"hf:{tmp_path / 's'}#split=test", classes=MODEL)

    def test_a_number_beyond_the_names(self, tmp_path: Path) -> None:
        table = pl.DataFrame({"image": [{"bytes": png(1)}], "label": [7]})
        named = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
        arrow = table.to_arrow().replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": named.to_dict()}})}
        )
        pq.write_table(arrow, tmp_path / "t.parquet")
        with pytest.raises(InputError, match="has the label 7, and the table names 3 classes"):
            open_data(str(tmp_path / "t.parquet"), classes=MODEL)

    def test_a_class_that_the_model_has_not(self, hub: Path) -> None:
        with pytest.raises(InputError, match=r"row 1 of hf:.*: 'cat' is none of the model's 2 classes"):
            open_data(f"hf:{hub}#split=test", classes=["dog", "red panda"])

    @pytest.mark.parametrize("name", ["nosuch", "../nosuch/at/all", "", "owner/nosuch"])
    def test_nothing_there(self, name: str) -> None:
        with pytest.raises(InputError, match=r"there is no data set|there is no folder"):
            open_data(f"hf:{name}")

    def test_code_in_a_data_set_is_not_run(self, tmp_path: Path) -> None:
        (tmp_path / "evil").mkdir()
        (tmp_path / "evil" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit")
        with pytest.raises(InputError, match="cannot be opened"):
            open_data(f"hf:{tmp_path / 'evil'}")
        assert not (tmp_path / "ran").exists()

    def test_an_old_package_and_none(self, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "__version__", "3.6.0")
        with pytest.raises(InputError, match=r"datasets 3\.6\.0 may run code .*: expected version 4"):
            open_data(f"hf:{hub}#split=test")
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        with pytest.raises(InputError, match=r"pip install heatproof\[hf\]"):
            open_data(f"hf:{hub}#split=test")


def test_names_of_classes_meet_the_models() -> None:
    assert named_indices(["b, bee"], ["a", "b, bee"], ["bee", "wasp"]) == {"b, bee": 0}
    assert named_indices(["b, bee"], ["a", "b, bee"], ["bee", "b"]) == {}  # both are classes: which one is unknown
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    detailed = [info.label_name_to_description(wnid, detailed=False) for wnid in info.label_names()]
    short = [name.split(",")[0] for name in detailed]
    assert named_indices([detailed[134], detailed[517]], detailed, short) == {detailed[134]: 134, detailed[517]: 517}


def test_what_stands_beside_the_schema_and_says_nothing(tmp_path: Path) -> None:
    for number, text in enumerate(['{"info": 3}', "[", '{"info": {"features": {"label": {"_type": "ClassLabel"}}}}']):
        table = tmp_path / f"{number}.parquet"
        rows = pl.DataFrame({"image": [png(0)], "label": [1]})
        rows.write_parquet(table, metadata={"huggingface": text})
        assert open_data(table, classes=MODEL).labels == [1]
