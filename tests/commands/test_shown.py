"""Which photos are drawn: mistakes first, then doubt, whatever the order in which they come and whoever was killed."""

from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.command_line import heatproof

from heatproof.commands.explain import Explain
from heatproof.commands.shown import Shown, by_interest, seen, told
from heatproof.errors import InputError, RunError
from heatproof.results.reading import read_run
from heatproof.results.run import Run
from heatproof.results.strict import read_summary
from heatproof.results.viewer import view_key


def row(image: str, confidence: float, label: int | None = 1, prediction: int = 1) -> dict:
    return {"image": image, "label": label, "prediction": prediction, "confidence": confidence}


PHOTOS = {
    "sure-mistake": row("sure-mistake", 0.9, label=0),
    "mistake": row("mistake", 0.6, label=0),
    "doubt": row("doubt", 0.4),
    "unlabelled": row("unlabelled", 0.5, label=None),
    "right": row("right", 0.99),
}
ORDER = list(PHOTOS)
NAMES = {image: f"{image}.png" for image in PHOTOS}


def test_mistakes_come_first_and_equal_ranks_by_name() -> None:
    table = pl.DataFrame([*PHOTOS.values(), *PHOTOS.values(), row("also-doubt", 0.4)])
    assert [image for _, image in by_interest(table)] == [*ORDER[:2], "also-doubt", *ORDER[2:]]
    nothing_known = pl.DataFrame([row("b", float("nan"), None), row("a", 0.1, None)])
    assert [image for _, image in by_interest(nothing_known)] == ["b", "a"]


def touch(run: Run, image: str) -> None:
    for name in (f"figures/{image}.png", f"figures/{image}.pdf"):
        run.write_bytes(name, b"")
    for kind in ("json", "webp"):
        run.write_bytes(f"viewer/{view_key(image)}.{kind}", b"")


def left(run: Run) -> set[str]:
    pictures = {path.stem for path in run.path("figures").iterdir()}
    views = {path.stem for path in run.path("viewer").iterdir()}
    assert views == {view_key(image) for image in pictures}
    return pictures


@pytest.mark.parametrize("killed_after", [None, 2, 4])
def test_the_same_photos_in_any_order(tmp_path: Path, killed_after: int | None) -> None:
    for number, order in enumerate(permutations(PHOTOS)):
        with Run.start(tmp_path / str(number), command="explain", settings={}) as run:
            shown, drawn = Shown(run, NAMES, 2), 0
            for part, image in enumerate(order):
                if part == killed_after:
                    shown = Shown(run, NAMES, 2)  # what a second start knows is in the folder
                wanted, outdone = shown.add([PHOTOS[image]])
                for one in wanted:
                    touch(run, one)
                    drawn += 1
                run.append_rows(part, [PHOTOS[image]])
                shown.delete(outdone)
            table = shown.end(run.merge())
            assert left(run) == {"sure-mistake", "mistake"}
            assert drawn <= 5
        figures = dict(zip(table["image"], table["figure"], strict=True))
        assert figures == {image: f"figures/{image}.png" if image in ORDER[:2] else None for image in PHOTOS}


def test_what_a_process_left_beside_is_deleted_and_foreign_tables_are_refused(tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", command="explain", settings={}) as run:
        shown = Shown(run, NAMES, 1)
        for image in PHOTOS:
            touch(run, image)
        shown.end(pl.DataFrame(list(PHOTOS.values())))
        assert left(run) == {"sure-mistake"}
        with pytest.raises(RunError, match="no column label"):
            shown.end(pl.DataFrame({"image": ["a"]}))
        with pytest.raises(RunError, match="column confidence of String"):
            shown.end(pl.DataFrame({"image": ["a"], "label": [1], "prediction": [1], "confidence": ["high"]}))
        run.write_bytes("parts/000007.parquet", b"no table")
        assert Shown(run, NAMES, 1).add([PHOTOS["right"]])[0] == {"right"}
        run.path("parts/000007.parquet").unlink()


def test_what_is_said() -> None:
    assert told(20, 20, True) == []
    assert told(20, 1000, True)[0].startswith("20 of 1000 photos are drawn: mistakes first")
    assert "mistakes" not in told(20, 1000, False)[0]


@pytest.mark.parametrize("wrong", [-1, True, "some", 1.5])
def test_a_number_of_figures_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="figures is a number of photos from 0 on, or 'all'"):
        Explain(figures=wrong)  # type: ignore[arg-type]


def explained(out: Path, *words: str) -> tuple[set[str], pl.DataFrame]:
    told_words = ["explain", "demo", "--model", "demo", "--limit", "60", "--explainer", "gradcam()", *words]
    assert heatproof(*told_words, "--out", str(out)) == 0
    run = read_run(out)
    assert run.images is not None
    drawn = set(run.images.filter(pl.col("figure").is_not_null())["image"])
    assert len(run.figures) == len(run.views) == len(drawn)
    return drawn, run.images


def test_of_many_photos_the_most_interesting_are_drawn(tmp_path: Path) -> None:
    some, table = explained(tmp_path / "some")
    assert table["image"].n_unique() == 60
    assert some == {image for _, image in by_interest(table)[:20]}
    assert read_summary(tmp_path / "some")["answer"][1:] == told(20, 60, True)
    three, same = explained(tmp_path / "three", "--figures", "3", "--batch-size", "7")
    assert three == {image for _, image in by_interest(table)[:3]}
    none, _ = explained(tmp_path / "none", "--figures", "0")
    assert none == set()
    # all maps are made, drawn or not
    assert same.drop("figure").height == table.height


def test_all_of_few_photos_or_all_that_are_asked_for(tmp_path: Path) -> None:
    few, table = explained(tmp_path / "few", "--limit", "9")
    assert len(few) == 9
    [sentence] = read_summary(tmp_path / "few")["answer"]
    assert sentence.startswith("9 photos: ")
    assert "of 18 maps" in sentence or "of the 18 maps" in sentence
    every, _ = explained(tmp_path / "all", "--figures", "all")
    assert len(every) == 60
    one = "figures/" + sorted(path.name for path in (tmp_path / "few" / "figures").iterdir())[0]
    image = table.filter(pl.col("figure") == one)["image"][0]
    both = pl.read_parquet(tmp_path / "all" / "images.parquet").filter(pl.col("image") == image)["figure"].to_list()
    # drawn here or beside, the same bytes; --limit chose other photos, so that not each is in both
    assert not both or (tmp_path / "all" / both[0]).read_bytes() == (tmp_path / "few" / one).read_bytes()


@pytest.mark.parametrize("wrong", ["many", "-3", "1.5", "²"])
def test_a_wrong_flag_is_a_sentence(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert heatproof("explain", "demo", "--model", "demo", f"--figures={wrong}", "--out", str(tmp_path / "out")) == 2
    assert "--figures is a number of photos, or all" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def of_map(image: str, target: str, **more: Any) -> dict[str, Any]:
    own = {"image": image, "model": "net", "label": None, "target": target, "target_name": target, "empty": False}
    own |= {"prediction": "cat", "prediction_name": "cat", "confidence": 0.9, "probability": 0.9}
    own |= {"explainer": "GradCAM()", "maximum": 1.0}
    return {**own, "center_row": 0.5, "center_col": 0.5, **more}


def test_what_is_seen_of_few_photos_is_said_of_each_and_of_many_together() -> None:
    dog = of_map("a.png", "dog", probability=0.08, center_row=0.1, center_col=0.9)
    table = pl.DataFrame([of_map("a.png", "cat", empty=True), dog, of_map("b.png", "cat")])
    first, second = seen(table)
    assert first.startswith("a.png: the network says cat, 90")
    assert "; GradCAM(): the map of cat is empty; the map of dog (8" in first
    assert first.endswith("lies at the top right.")
    assert second.endswith("; GradCAM(): the map of cat lies in the middle.")
    [all_together] = seen(pl.DataFrame([of_map(f"{n}.png", "cat", label="cat", empty=n < 2) for n in range(5)]))
    assert all_together.startswith("5 photos: the network's answers have a probability of 90")
    assert all_together.endswith("and are right on 5 of 5; 2 of 5 maps are empty.")


def test_of_several_explainers_each_is_named_with_its_own_map() -> None:
    rows = [
        of_map("a.png", "cat"),
        of_map("a.png", "cat", explainer="LRP()", center_row=0.9),
        of_map("a.png", "dog", probability=0.1, explainer="LRP()", maximum=-0.5),
        of_map("a.png", "cat", explainer="GradCAM(counterfactual=True, relu=False)", maximum=0.0),
    ]
    [said] = seen(pl.DataFrame(rows))
    assert said == (
        "a.png: the network says cat, 90.0%. GradCAM(): the map of cat lies in the middle. LRP(): the map of cat lies "
        "at the bottom; the map of dog (10.0%) is negative throughout, nothing in it speaks for dog. "
        "GradCAM(counterfactual=True, relu=False): the map of cat is negative throughout, nothing in it speaks against "
        "cat."
    )


def test_a_map_that_asks_no_class_is_told_once() -> None:
    rows = [of_map("a.png", name, explainer="EigenCAM()") for name in ("cat", "dog")]
    [said] = seen(pl.DataFrame(rows), {"EigenCAM()"})
    assert said.endswith("; EigenCAM(): the map, the same for every class, lies in the middle.")
