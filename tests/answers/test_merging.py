"""Shards from Python."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.command_line import heatproof

import heatproof as hp
from heatproof.commands.audit import run as audit
from heatproof.commands.shift import run as shift

ASKED: dict[str, Any] = {"limit": 6, "batch_size": 2, "epsilon": 0.05}


def test_shards_from_python_are_one_call(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pictures take most of the time, and are held elsewhere
    monkeypatch.setattr(shift, "_draw", lambda *_: None)
    one = hp.shift("demo", "demo", **ASKED)
    folders = [tmp_path / f"part-{k}" for k in (1, 2)]
    for k, folder in enumerate(folders, 1):
        part = hp.shift("demo", "demo", **ASKED, shard=f"{k}/2", out=folder)
        assert part.answer == [f"shard {k}/2 is done; when all are, hp.merge joins their folders"]
        assert part.rows == []
        assert part.images["image"].n_unique() == (4, 2)[k - 1]
        assert "(shift: 0 rows" in repr(part)
        assert "hp.merge" in part._repr_html_()
    # there is no command to be given again
    assert heatproof("merge", *map(str, folders), "--out", str(tmp_path / "cli")) == 2
    assert "join them with hp.merge(runs, out=OUT), and call hp.shift as before" in " ".join(
        capsys.readouterr().err.split()
    )
    whole = hp.shift("demo", "demo", **ASKED, out=hp.merge(folders, out=tmp_path / "whole"))
    assert whole.images.equals(one.images)
    assert whole.summary == one.summary
    assert hp.merge(folders, out=tmp_path / "whole") == tmp_path / "whole"


def test_the_call_that_ends_does_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "show_mosaics", lambda *_: None)
    monkeypatch.setattr(audit, "show_disagreement", lambda *_: None)
    asked: dict[str, Any] = {"limit": 12, "batch_size": 4, "budget": 37}
    one = hp.audit("demo", "demo", **asked)
    hp.audit("demo", "demo", **asked, shard="2/3", out=tmp_path / "part")
    with pytest.raises(hp.RunError, match="shards are missing: 1, 3 of 3"):
        hp.merge([tmp_path / "part"], out=tmp_path / "whole")
    whole = hp.audit("demo", "demo", **asked, out=hp.merge([tmp_path / "part"], out=tmp_path / "whole", partial=True))
    assert whole.images.equals(one.images)
    assert whole.summary["rows"] == one.summary["rows"]
    assert "missing" not in whole.summary


def test_a_shard_needs_a_folder(tmp_path: Path) -> None:
    for verb in (hp.shift, hp.audit, hp.evaluate):
        with pytest.raises(hp.InputError, match="give it a folder of its own, out="):
            verb("demo", "demo", limit=2, shard="1/2")
    with pytest.raises(hp.InputError, match="give it a folder of its own, out="):
        hp.compare("demo", "demo", "demo", limit=2, shard="1/2")
    with pytest.raises(hp.SpecError, match="a shard is k/n"):
        hp.shift("demo", "demo", limit=2, shard="3/2", out=tmp_path / "out")


def test_shards_of_maps_are_one_call(tmp_path: Path) -> None:
    asked = {"limit": 7, "batch_size": 2, "target": [3, 3, 1, 3, 1, 3, 3], "figures": 2}
    whole = hp.explain("demo", "demo", **asked, out=tmp_path / "one")
    parts = [hp.explain("demo", "demo", **asked, shard=f"{k}/2", out=tmp_path / f"part-{k}") for k in (1, 2)]
    # the photos of a share are those of its parts, each with its own class
    assert [part.ids for part in parts] == [[whole.ids[n] for n in own] for own in ((0, 1, 4, 5), (2, 3, 6))]
    assert parts[1].targets.tolist() == [1, 3, 3]
    assert torch.equal(parts[1].heatmaps, whole.heatmaps[[2, 3, 6]])
    folder = hp.merge([tmp_path / "part-1", tmp_path / "part-2"], out=tmp_path / "whole")
    hp.explain("demo", "demo", **asked, out=folder)
    for name in ("images.parquet", "summary.json"):
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    figures = [{path.name: path.read_bytes() for path in run.glob("figures/*")} for run in (folder, tmp_path / "one")]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 2


def test_a_shard_of_what_is_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hp.InputError, match="is for photos by name or opened data"):
        hp.explain("demo", torch.rand(2, 3, 64, 64), shard="1/2", out=tmp_path / "out")
