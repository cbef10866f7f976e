"""A job in shards, each with a folder of its own: killed, gone on with and joined, it is the run of one process."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.test_processes import VERBS
from tests.command_line import heatproof
from tests.fuzz.test_stops import KILLED

from heatproof.commands.shift import run as shift
from heatproof.errors import InputError, Remark
from heatproof.results.joining import read_shards
from heatproof.results.reading import read_run

SHIFT = ["shift", "demo", "--model", "demo", "--limit", "6", "--batch-size", "2", "--epsilon", "0.05"]
SHARDED = {
    **VERBS,
    "shift": [*VERBS["shift"], "--model", "demo"],
    "explain": [*VERBS["explain"], "--heatmaps"],
    "figures": ["explain", "demo", "--model", "demo", "--limit", "6", "--batch-size", "1", "--figures", "2"],
    "compare": [*VERBS["compare"], "--with", "demo"],
    "pairs": [
        "compare",
        "demo",
        "demo",
        "demo",
        "--limit",
        "40",
        "--batch-size",
        "4",
        "--penalty",
        "active_swap(3, 4)",
    ],
}
MADE = ("figures", "viewer", "heatmaps", "kept", "curves")


def shared(words: list[str], folder: Path, count: int = 3, only: int | None = None) -> list[Path]:
    """The folders of all shards of a command, or of the first few."""
    folders = [folder / f"shard-{k}" for k in range(1, (only or count) + 1)]
    for k, out in enumerate(folders, 1):
        assert heatproof(*words, "--shard", f"{k}/{count}", "--out", str(out)) == 0
    return folders


def joined(folders: list[Path], *more: str) -> int:
    return heatproof("merge", *map(str, folders), *more)


def files(folder: Path) -> dict[str, bytes]:
    """All that a run came to, as bytes: the table, the summary, and every file that was made for a photo or a part."""
    made = [path for name in MADE for path in sorted((folder / name).rglob("*"))]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in [folder / "images.parquet", folder / "summary.json", *made]
    }


def assert_as_one(found: Path, one: Path) -> None:
    assert read_run(found).status == "complete"
    assert read_run(found).problems == []
    got, wanted = files(found), files(one)
    assert got.keys() == wanted.keys()
    assert [name for name in got if got[name] != wanted[name]] == []
    assert not (found / "parts").exists()


def killed(words: list[str], at: int) -> int:
    """The exit status of a command that is killed at its ``at``-th write."""
    told = [sys.executable, "-c", KILLED, str(at), "before", *words]
    return subprocess.run(told, check=False, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("verb", SHARDED)
def test_three_shards_killed_gone_on_with_and_joined_are_one_process(verb: str, tmp_path: Path) -> None:
    words, one, out = SHARDED[verb], tmp_path / "one", tmp_path / "all"
    assert heatproof(*words, "--out", str(one)) == heatproof(*words, "--out", str(one))
    second = [*words, "--shard", "2/3", "--out", str(tmp_path / "shard-2")]
    # the record, what was read, and then in the middle of a part
    assert killed(second, at=4) == 9
    assert read_run(tmp_path / "shard-2").status == "running"
    folders = shared(words, tmp_path)
    # in the middle of the joining, at its end, and in the middle of what is drawn
    for at in (4, 9, 12):
        assert killed(["merge", *map(str, folders), "--out", str(out)], at) == 9
    assert heatproof(*words, "--out", str(one)) == joined(folders[::-1], "--out", str(out))
    assert_as_one(out, one)
    # what the shards made is theirs still
    assert joined(folders, "--out", str(tmp_path / "again")) == joined(folders, "--out", str(out))
    assert_as_one(tmp_path / "again", one)


@pytest.fixture(scope="module")
def undrawn() -> Generator[None]:
    """The end of a shift without its pictures, which take most of the time; the slow tests hold these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shift, "_draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, undrawn: None) -> Path:
    """Three shards of a shift, and the run of one process; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    shared(SHIFT, folder)
    assert heatproof(*SHIFT, "--out", str(folder / "one")) == 0
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> list[Path]:
    """Copies of the three, with the times of their files."""
    return [Path(shutil.copytree(made / f"shard-{k}", tmp_path / f"shard-{k}")) for k in (1, 2, 3)]


@pytest.fixture
def told(capsys: pytest.CaptureFixture) -> Callable[[], str]:
    """What was said on standard error since the last call."""
    return lambda: " ".join(capsys.readouterr().err.split())


def changed(folder: Path, **fields: Any) -> None:
    """A shard whose record says something else."""
    file = folder / "run.json"
    times = file.stat()
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def recorded(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_shards_joined_are_one_process(made: Path, tmp_path: Path, told: Callable[[], str]) -> None:
    folders = [made / f"shard-{k}" for k in (2, 3, 1)]
    told()
    assert joined(folders, "--out", str(tmp_path / "all")) == 0
    assert f"open {tmp_path / 'all' / 'report.html'}" in told()
    assert_as_one(tmp_path / "all", made / "one")
    record = recorded(tmp_path / "all")
    assert [(one["shard"], one["parts"]) for one in record["shards"]["joined"]] == [("1/3", 1), ("2/3", 1), ("3/3", 1)]
    # the command that makes the same run
    assert record["options"]["typed"] == recorded(made / "one")["options"]["typed"].replace(
        str(made / "one"), str(tmp_path / "all")
    )
    assert "3 of 3 joined" in (tmp_path / "all" / "report.html").read_text()
    before = files(tmp_path / "all")
    assert joined(folders, "--out", str(tmp_path / "all")) == 0
    assert "is complete already" in told()
    assert files(tmp_path / "all") == before


def test_a_shard_says_what_is_to_be_done(made: Path, shards: list[Path], told: Callable[[], str]) -> None:
    assert recorded(shards[1])["status"] == "shard"
    assert not (shards[1] / "report.html").exists()
    told()
    again = [*SHIFT, "--shard", "2/3", "--out", str(shards[1])]
    assert heatproof(*again) == 0
    assert f"shard 2/3 is done in {shards[1]}; when all 3 are, heatproof merge" in told()
    # another share, or the whole, is another run
    for other in (["--shard", "1/3"], []):
        assert heatproof(*SHIFT, *other, "--out", str(shards[1])) == 2
        assert "shard was '2/3' and is now" in told()
    assert heatproof("report", str(shards[1])) == 0
    assert "this is shard 2/3 of a job" in (shards[1] / "report.html").read_text()


def test_more_shards_than_parts(made: Path, tmp_path: Path) -> None:
    folders = shared(SHIFT, tmp_path, count=5)
    assert len(recorded(folders[4])) == len(recorded(folders[0]))
    assert joined(folders, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "a/b", "3", "1/0", "-1/2", "1/2/3", "", "1e1/20", "²/3", "1/10000000", "1/9" + 5000 * "9"]
)
def test_a_shard_out_of_range(text: str, tmp_path: Path, told: Callable[[], str]) -> None:
    assert heatproof(*SHIFT, "--shard", text, "--out", str(tmp_path / "out")) == 2
    assert "a shard is k/n, the k-th of n from 1/n to n/n" in told()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["fool", "demo", "--model", "demo", "--penalty", "location()"], "torchrun -m heatproof fool"),
        (["fool", "demo", "--model", "demo", "--edit", "weight_edit()"], "one computation"),
        (["repair", "demo", "--model", "demo"], "a repair is one computation"),
        (["demo"], "give it without --shard"),
        (["study", "remedies"], "one command for each setting"),
        (["audit", "demo", "demo", *(3 * ["--calibrate", "demo"])], "--thresholds thresholds.json"),
    ],
)
def test_what_cannot_be_shared(words: list[str], way: str, tmp_path: Path, told: Callable[[], str]) -> None:
    assert heatproof(*words, "--shard", "1/2", "--out", str(tmp_path / "out")) == 2
    said = told()
    assert "--shard 1/2 is of no use here" in said
    assert way in said
    assert not (tmp_path / "out").exists()


def test_missing_and_doubled_shards_are_named(shards: list[Path], tmp_path: Path, told: Callable[[], str]) -> None:
    out = tmp_path / "all"
    told()
    assert joined([shards[2]], "--out", str(out)) == 2
    assert "shards are missing: 1-2 of 3; name their folders too, give the command with --shard 1/3" in told()
    assert joined([*shards, shards[1]], "--out", str(out)) == 2
    assert f"shard 2/3 is there twice, in {shards[1]} and in {shards[1]}: leave one out" in told()
    assert joined([*shards, tmp_path / "nowhere"], "--out", str(out)) == 2
    assert "nowhere does not exist" in told()
    (tmp_path / "letters").mkdir()
    assert joined([*shards, tmp_path / "letters"], "--out", str(out)) == 2
    assert "letters has no run.json" in told()
    assert not out.exists()


VERSIONS = {"heatproof": "9.9", "torch": "2.0", "torchvision": "0.1", "timm": None, "python": "3.11"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shard": None}, "holds a run of 'shift' that is no shard of a job"),
        ({"shard": "4/3"}, "run.json is damaged: a shard is k/n"),
        ({"shard": 2}, "run.json is damaged: 2 is no shard"),
        ({"shard": "2/4"}, "holds one of 4 shards and"),
        ({"seed": 7}, "seed was 0 and is now 7"),
        ({"command": "audit"}, "of audit: these are shards of two jobs"),
        ({"settings": {"models": ["resnet18"]}}, "models was ['demo'] and is now ['resnet18']"),
        ({"status": "failed", "error": "the disk is full"}, "is not done, but failed (the disk is full): its command"),
        ({"status": "running"}, "is not done, but running: its command goes on where it stopped; or take what it has"),
        ({"status": "odd"}, "'odd' is no status"),
        ({"data": {"name": "demo", "count": 6, "sha256": "00"}}, "the files behind the same names differ"),
        ({"model": [{"name": "demo", "sha256": "00"}]}, "was made with model [{'name': 'demo', 'sha256': '00'}]"),
        ({"versions": VERSIONS}, "was made with heatproof 9.9 and shard 1/3 in"),
        ({"format": 7}, "was written by another version"),
    ],
)
def test_shards_that_do_not_fit(
    fields: dict[str, Any], said: str, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    changed(shards[1], **fields)
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 2
    words = told()
    assert said in words
    assert "Traceback" not in words
    assert "shard-2" in words
    assert not (tmp_path / "all").exists()


def test_precision_auto_is_what_the_shards_settled(
    made: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in shards:
        typed = f"{recorded(folder)['options']['typed']} --precision auto"
        changed(folder, options={"typed": typed})
    # another processor than that of the shards
    monkeypatch.setattr("heatproof.commands.precision.computes_in_bf16", lambda _: pytest.fail("was settled anew"))
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


def test_a_merge_works_in_one_process(made: Path, told: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    told()
    assert joined([made / "shard-1"]) == 2
    assert "heatproof merge works in one process" in told()


def test_shards_of_another_version_than_this_one(shards: list[Path], told: Callable[[], str]) -> None:
    for folder in shards:
        changed(folder, versions=recorded(folder)["versions"] | {"torch": "2.0"})
    told()
    assert joined(shards, "--out", "nowhere") == 2
    assert "was made with torch 2.0 and heatproof here is of torch" in told()


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2999-01-01T00:00:00+00:00", None, "which is still to come"),
        ("2020-01-01T00:00:00+00:00", "2019-01-01T00:00:00+00:00", "before it was begun"),
        ("2020-01-01T00:00:00+00:00", "2998-01-01T00:00:00+00:00", "its run.json was written before that"),
        ("no time", None, "says no time"),
    ],
)
def test_a_clock_that_is_wrong_is_told(start: str, end: str | None, said: str, shards: list[Path]) -> None:
    changed(shards[1], start=start, end=end)
    with pytest.warns(Remark, match=said):
        found = read_shards(shards)
    assert found.missing == []


def test_partial_says_what_is_missing_and_is_filled_later(
    made: Path, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    out = tmp_path / "all"
    assert joined([shards[0], shards[2]], "--partial", "--out", str(out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    sentence = "joined without all of its shards (--partial): missing or not done 2 of 3"
    assert summary["missing"] == [2]
    assert sentence in summary["answer"][0]
    assert sentence in " ".join((out / "report.html").read_text().split())
    assert pl.read_parquet(out / "images.parquet")["image"].n_unique() == 4
    assert recorded(out)["status"] == "partial"
    # one that was stopped gives the parts that are whole, and none here
    changed(shards[1], status="running")
    shutil.rmtree(shards[1] / "parts")
    assert joined(shards, "--partial", "--out", str(out)) == 0
    assert json.loads((out / "summary.json").read_text()) == summary
    assert heatproof(*SHIFT, "--shard", "2/3", "--out", str(shards[1])) == 0
    assert joined(shards, "--out", str(out)) == 0
    assert_as_one(out, made / "one")


def test_a_part_that_is_there_is_counted_as_it_was_measured(shards: list[Path], tmp_path: Path) -> None:
    """Six of the 400 scenes were asked for, and four were measured."""
    out = tmp_path / "all"
    assert joined([shards[0], shards[2]], "--partial", "--out", str(out)) == 0
    look = "This is a look at 4 of 400 photos, those of the shards that were joined: too few for intervals."
    assert look in json.loads((out / "summary.json").read_text())["answer"]
    assert "demo, 6 images, of which 4 were measured" in " ".join((out / "report.html").read_text().split())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["shift", "explain", "evaluate", "compare", "audit"])
def test_no_sentence_of_a_partial_merge_counts_photos_that_were_not_measured(verb: str, tmp_path: Path) -> None:
    words, out = SHARDED[verb], tmp_path / "all"
    (first,) = shared(words, tmp_path, count=2, only=1)
    assert joined([first], "--partial", "--out", str(out)) in (0, 1)
    asked = recorded(out)["data"]["count"]
    assert pl.read_parquet(out / "images.parquet")["image"].n_unique() < asked
    told = " ".join(json.loads((out / "summary.json").read_text())["answer"])
    assert asked not in [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) (?:photos|images)", told)]


def test_the_plain_command_does_what_is_missing(made: Path, shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "all"
    assert joined(shards[:2], "--partial", "--out", str(out)) == 0
    assert heatproof(*SHIFT, "--out", str(out)) == 0
    assert_as_one(out, made / "one")


def only(folder: Path) -> Path:
    """The one part of a shard."""
    (part,) = (folder / "parts").iterdir()
    return part


def cut(folder: Path) -> None:
    only(folder).write_bytes(only(folder).read_bytes()[:-7])


def torn(folder: Path) -> None:
    only(folder).write_bytes(bytes(only(folder).stat().st_size))


def linked(folder: Path) -> None:
    part = only(folder)
    elsewhere = folder.parent / "elsewhere.parquet"
    shutil.move(part, elsewhere)
    part.symlink_to(elsewhere)
    listed(folder, {f"parts/{part.name}": part.lstat().st_size})


def elsewhere(folder: Path) -> None:
    shutil.move(folder / "parts", folder.parent / "theirs")
    (folder / "parts").symlink_to(folder.parent / "theirs")


def listed(folder: Path, names: Any, hashes: Any = None) -> None:
    """A list without hashes, as an earlier version wrote it, or with some."""
    content = {"files": names} if hashes is None else {"files": names, "sha256": hashes}
    (folder / "shard.json").write_text(json.dumps(content))


@pytest.mark.filterwarnings("ignore::heatproof.errors.Remark")
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "bytes are expected and"),
        (lambda folder: only(folder).unlink(), "and none there; copy the folder again"),
        (torn, "the content of parts/000-0000001.parquet is another"),
        (lambda folder: (torn(folder), of_an_earlier_version(folder)), "is damaged and was left out"),
        (linked, "is a link, a folder or a device"),
        (elsewhere, "and none there; copy the folder again"),
        (lambda folder: (folder / "shard.json").unlink(), "cannot be read: No such file"),
        (lambda folder: (folder / "shard.json").write_text("{"), "shard.json cannot be read"),
        (lambda folder: listed(folder, ["parts/a"]), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"../shard-1/run.json": 4}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"parts/../../shard-1/run.json": 4}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"/etc/passwd": 4}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"parts/.lock": 0}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"parts/a": -1}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"parts/a": 4}, {}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {"parts/a": 4}, {"parts/a": "0"}), "is no list of the files of a shard"),
        (lambda folder: listed(folder, {}), "part 1 is in none of the folders, and should be in that of shard 2/3"),
        (lambda folder: only(folder).rename(folder / "parts" / "000-0000003.parquet"), "and none there"),
        (lambda folder: (only(folder).rename(folder / "parts" / "a.parquet"), renamed(folder)), "is no part of shard"),
        (
            lambda folder: (only(folder).rename(folder / "parts" / "000-0000003.parquet"), renamed(folder)),
            "000-0000003.parquet is no part of shard 2/3",
        ),
    ],
)
def test_a_damaged_shard_is_named(
    damage: Callable[[Path], Any],
    said: str,
    made: Path,
    shards: list[Path],
    tmp_path: Path,
    told: Callable[[], str],
) -> None:
    damage(shards[1])
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 2
    words = told()
    assert said in words
    assert "Traceback" not in words
    assert "shard-2" in words


def flipped(path: Path) -> None:
    """One bit of a file in another way, its size and its times as they were."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_one_flipped_bit_is_found_and_the_same_command_makes_the_part_anew(
    made: Path, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    part = only(shards[1])
    flipped(part)
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 2
    words = told()
    assert f"shard 2/3 in {shards[1]} is not as it was when it was done: the content of parts/{part.name}" in words
    assert "give the shard's command again, which makes it anew" in words
    assert not (tmp_path / "all").exists()
    assert heatproof(*SHIFT, "--shard", "2/3", "--out", str(shards[1])) == 0
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


def test_a_part_that_was_cut_off_is_made_anew_as_it_is_said(made: Path, shards: list[Path], tmp_path: Path) -> None:
    cut(shards[1])
    assert heatproof(*SHIFT, "--shard", "2/3", "--out", str(shards[1])) == 0
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


def of_an_earlier_version(folder: Path) -> None:
    listed(folder, json.loads((folder / "shard.json").read_text())["files"])


@pytest.mark.filterwarnings("always::heatproof.errors.Remark")
def test_shards_without_hashes_are_joined_and_it_is_told(
    made: Path, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    of_an_earlier_version(shards[2])
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    words = told()
    assert f"shard 3/3 in {shards[2]} was made by an earlier version" in words
    assert "shard 1/3 in" not in words
    assert_as_one(tmp_path / "all", made / "one")


@pytest.mark.filterwarnings("ignore::heatproof.errors.Remark")
def test_an_id_that_is_none_of_the_data_is_told_with_its_part_and_its_shard(
    made: Path, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    part = only(shards[1])
    table = pl.read_parquet(part)
    table.with_columns(pl.col("image").str.replace("digit", "dmgit")).write_parquet(part)
    listed(shards[1], {f"parts/{part.name}": part.stat().st_size})
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 1
    words = told()
    assert f"parts/{part.name} holds rows of 'dmgit-" in words
    assert f"it is of shard 2/3 in {shards[1]}: delete {part}, give that shard's command again, and merge" in words
    assert "Traceback" not in words
    assert not (tmp_path / "all" / "images.parquet").exists()
    part.unlink()
    assert heatproof(*SHIFT, "--shard", "2/3", "--out", str(shards[1])) == 0
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


def test_shards_of_two_verbs_are_told_by_their_verbs(
    shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    changed(
        shards[1], command="explain", settings={"explainers": ["GradCAM()"]}, options={"typed": "heatproof explain"}
    )
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 2
    assert told() == (
        f"heatproof: shard 1/3 in {shards[0]} is of shift, and shard 2/3 in {shards[1]} of explain: these are shards "
        "of two jobs; name the folders of one"
    )


def renamed(folder: Path) -> None:
    listed(folder, {f"parts/{only(folder).name}": only(folder).stat().st_size})


def test_a_part_that_was_lost_is_made_anew(made: Path, shards: list[Path], tmp_path: Path) -> None:
    only(shards[1]).unlink()
    assert heatproof(*SHIFT, "--shard", "2/3", "--out", str(shards[1])) == 0
    assert joined(shards, "--out", str(tmp_path / "all")) == 0
    assert_as_one(tmp_path / "all", made / "one")


@pytest.mark.parametrize(
    "typed",
    [
        "heatproof shift demo --model {evil}:build --limit 6",
        "heatproof shift demo --model=resnet18 --architecture {evil}:build",
        "heatproof shift demo --model {evil}",
        "heatproof shift demo --model '{evil}:build(depth=3)@weights.pth'",
    ],
)
def test_code_that_a_strangers_shard_names_is_not_run(
    typed: str, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for folder in shards:
        changed(folder, options={"typed": typed.format(evil=evil)})
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == 2
    assert "names a file of code" in told()
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        (None, 2, "were made from Python, and so is their end: join them with hp.merge"),
        ("rm -rf /", 2, "names a command that cannot be read"),
        ("heatproof shift 'demo", 2, "No closing quotation"),
        ("heatproof fool demo --model demo", 2, "it is no heatproof explain or"),
        ("heatproof shift --help", 2, "names a command that cannot be read"),
        ("heatproof shift demo", 2, "Missing option '--model'"),
        # another command than the one that the settings are of
        ("heatproof shift demo --model demo --limit 4", 2, "holds a run with other settings"),
    ],
)
def test_odd_commands_are_told(
    typed: str | None, status: int, said: str, shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    for folder in shards:
        changed(folder, options={"typed": typed})
    told()
    assert joined(shards, "--out", str(tmp_path / "all")) == status
    words = told()
    assert said in words
    assert "Traceback" not in words


def test_a_factory_of_ones_own_is_joined_when_it_is_said(
    undrawn: None, tmp_path: Path, told: Callable[[], str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from heatproof.models.loading import load\n\ndef build():\n    return load('demo')\n", encoding="utf-8"
    )
    words = ["shift", "demo", "--model", f"{mine}:build", "--limit", "4", "--batch-size", "2", "--epsilon", "0.05"]
    folders = shared(words, tmp_path, count=2)
    told()
    assert joined(folders, "--out", str(tmp_path / "all")) == 2
    assert "Where they are yours, --trust-code" in told()
    assert joined(folders, "--trust-code", "--device", "cpu", "--out", str(tmp_path / "all")) == 0
    assert read_run(tmp_path / "all").status == "complete"


def test_shards_are_not_emptied_and_nor_is_what_they_read(
    shards: list[Path], tmp_path: Path, told: Callable[[], str]
) -> None:
    told()
    assert joined(shards, "--overwrite", "--out", str(shards[0])) == 2
    assert "--overwrite would empty" in told()
    assert joined(shards, "--out", str(shards[0])) == 2
    assert "shard was '1/3' and is now not given" in told()
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "mine.txt").write_text("mine")
    assert joined(shards, "--out", str(tmp_path / "letter")) == 2
    assert "mine.txt" in told()


def test_the_end_goes_on_once_what_is_wrong_is_mended(
    made: Path, shards: list[Path], tmp_path: Path, told: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise InputError("the photos are elsewhere")

    out = tmp_path / "all"
    with monkeypatch.context() as patch:
        patch.setattr(shift, "_measure_all", refuse)
        told()
        assert joined(shards, "--out", str(out)) == 1
        said = told()
    assert "the photos are elsewhere" in said
    assert f"this goes on: heatproof {' '.join(SHIFT)} --out {out}" in said
    assert heatproof(*SHIFT, "--out", str(out)) == 0
    assert_as_one(out, made / "one")


def test_a_folder_that_is_not_named_is_one_of_its_own_and_told(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert joined(shards) == 0
    (found,) = (tmp_path / "runs").iterdir()
    assert f"into {found.relative_to(tmp_path)}" in told()
    assert read_run(found).status == "complete"
