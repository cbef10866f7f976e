"""``heatproof report``: pages from files alone, of one run and of several."""

from pathlib import Path

import pytest
from tests.command_line import heatproof

from heatproof.results.run import Run


def made(folder: Path, value: float) -> Path:
    with Run.start(folder, command="explain", settings={"images": ["a.png"]}) as run:
        run.append_rows(0, [{"image": "a.png", "explainer": "GradCAM()", "confidence": value}])
        run.write_json(
            "summary.json",
            {
                "rows": [{"explainer": "GradCAM()", "confidence": value}],
                "answer": [f"sure by {value}"],
                "skipped": [],
            },
        )
    return folder


def test_the_page_of_a_run_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = made(tmp_path / "run", 0.625)
    assert heatproof("report", str(run)) == 0
    page = run / "report.html"
    assert "".join(capsys.readouterr().out.splitlines()) == str(page)
    assert "sure by 0.625" in page.read_text("utf-8")


def test_one_page_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [str(made(tmp_path / name, value)) for name, value in (("one", 0.625), ("two", 0.375))]
    assert heatproof("report", *runs, "--out", str(tmp_path / "both.html")) == 0
    text = (tmp_path / "both.html").read_text("utf-8")
    assert "sure by 0.625" in text
    assert "sure by 0.375" in text
    capsys.readouterr()


def test_a_name_without_an_ending_is_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = made(tmp_path / "run", 0.625)
    for out in ("rep1", "rep1", "v1.2"):  # one that is there already, too
        assert heatproof("report", str(run), "-o", str(tmp_path / out)) == 0
        assert "".join(capsys.readouterr().out.splitlines()) == str(tmp_path / out / "report.html")
        assert (tmp_path / out / "report.html").is_file()


def test_what_is_no_run_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert heatproof("report", str(tmp_path)) == 2
    assert heatproof("report", str(tmp_path / "nowhere")) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "nowhere" in "".join(told.splitlines())
