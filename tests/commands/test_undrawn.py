"""Figures that wait until all photos were seen: each is drawn once, and as if it had been drawn when it came."""

from pathlib import Path

import pytest
import torch
from tests.command_line import heatproof

from heatproof.commands import explain, undrawn
from heatproof.data.batches import Batch
from heatproof.errors import RunError
from heatproof.explainers.together import Grid
from heatproof.results.run import Run
from heatproof.results.viewer import view_key

WORDS = ["explain", "demo", "--model", "demo", "--limit", "24", "--figures", "3", "--batch-size", "4", "--pdf"]


def files(folder: Path) -> dict[str, bytes]:
    """What is drawn and shown, and the table."""
    found = [*folder.glob("figures/*"), *folder.glob("viewer/*"), folder / "images.parquet"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names, draw = [], explain.draw_grid

    def noted(path: Path, *words: object, **named: object) -> object:
        names.append(path.name)
        return draw(path, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(explain, "draw_grid", noted)
    return names


def test_each_figure_is_drawn_once_and_is_the_one_that_would_have_been_drawn_at_once(
    tmp_path: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert heatproof(*WORDS, "--out", str(tmp_path / "waited")) == 0
    assert len(drawn) == len(set(drawn)) == 3
    assert not (tmp_path / "waited" / "scratch").exists()
    monkeypatch.setattr(explain, "MOST", 0)
    assert heatproof(*WORDS, "--out", str(tmp_path / "at-once")) == 0
    assert len(drawn) > 3 + 3
    assert files(tmp_path / "waited") == files(tmp_path / "at-once")


def test_a_run_that_was_stopped_draws_what_waited(
    tmp_path: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    keep = undrawn.keep

    def stopping(run, number, *rest) -> None:
        if number == 3 and not kept:
            kept.append(number)
            raise KeyboardInterrupt
        keep(run, number, *rest)

    monkeypatch.setattr(explain, "keep", stopping)
    assert heatproof(*WORDS, "--out", str(tmp_path / "stopped")) == 130
    assert drawn == []
    assert heatproof(*WORDS, "--out", str(tmp_path / "stopped")) == 0
    assert len(drawn) == 3
    assert heatproof(*WORDS, "--out", str(tmp_path / "straight")) == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "straight")


def test_a_damaged_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    keep = undrawn.keep

    def damaging(run, number, *rest) -> None:
        keep(run, number, *rest)
        run.write_bytes(f"{undrawn.FOLDER}/{number:06d}.safetensors", b"torn")

    monkeypatch.setattr(explain, "keep", damaging)
    assert heatproof(*WORDS, "--out", str(tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert "000000.safetensors is no whole safetensors file" in said
    assert "give the same command again" in said


def test_what_waits_is_what_was_kept_and_nothing_else(tmp_path: Path) -> None:
    images = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5) / 255
    grid = Grid([torch.rand(2, 1, 3, 3), torch.rand(2, 1, 2, 2)], torch.rand(2, 7), torch.tensor([[1], [6]]))
    with Run.start(tmp_path / "out", command="explain", settings={}) as run:
        undrawn.keep(run, 0, Batch(["a", "b"], images, torch.tensor([0, 0])), grid, {"b"})
        waiting = undrawn.Undrawn(run)
        assert waiting.of("a") is None
        found = waiting.of("b")
        assert found is not None
        photo, own = found
        torch.testing.assert_close(photo, images[1])
        assert [torch.equal(one, maps[1:]) for one, maps in zip(own.heatmaps, grid.heatmaps, strict=True)] == [True] * 2
        assert torch.equal(own.logits, grid.logits[1:])
        assert own.targets.tolist() == [[6]]
        run.write_tensors(f"{undrawn.FOLDER}/000000.safetensors", {f"{view_key('b')}/photo": torch.zeros(3, 4, 5)})
        with pytest.raises(
            RunError, match=r"000000\.safetensors is damaged \(.*logits.*delete the folder .*out and give"
        ):
            undrawn.Undrawn(run).of("b")
