"""The study of defended explainers, small and from end to end; and how settings are chosen."""

from dataclasses import replace

import polars as pl
import pytest
from PIL import Image

from heatproof.defences.smoothed import Smoothed
from heatproof.defences.softplus import Softplus
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.results import Run
from heatproof.studies import defended_explainers as study
from heatproof.studies.defended_explainers import Defence, DefendedExplainers, chosen, is_noisy

FEW = (
    Defence("plain", GradCAM(), soft=False),
    *(Defence("smoothed", Smoothed(n=2, sigma=sigma), soft=False) for sigma in (0.01, 0.5)),
    Defence("softplus", Softplus(), soft=False),
)


def small() -> DefendedExplainers:
    preset = {**DefendedExplainers.presets["demo"], "choose": 2, "judge": 3, "steps": 2, "removals": 2}
    return DefendedExplainers(plain=("gradcam",), **preset)  # type: ignore[arg-type]


def test_every_defence_meets_every_attacker(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(study.DEFENCES, "gradcam", FEW)
    told: list[str] = []
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        summary = small()(run, say=told.append)
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    judged = table.filter(pl.col("part") == "judge")
    seen = {(family, attack) for family, attack in judged.select("family", "attack").iter_rows()}
    always = {"none", "noise", "naive", "knowing"}
    assert seen == {
        *(("plain", attack) for attack in always),
        *(("softplus", attack) for attack in always),
        *(("smoothed", attack) for attack in {*always, "seeing"}),
    }
    assert set(judged["image"]) == {f"judge {place}" for place in range(3)}
    clean = judged.filter(pl.col("attack") == "none")
    assert (clean["topk_intersection"] == 1).all()
    assert (clean["nissim"].abs() < 1e-6).all()
    # a map of n copies costs n passes there and back, and one there
    passes = dict(clean.select("family", "passes").iter_rows())
    assert passes == {"plain": 2, "smoothed": 5, "softplus": 3}
    assert len(summary["answer"]) == 2
    assert "under one who knows the draw" in "".join(summary["answer"])
    measured = len([line for line in told if "under the last attack" in line])
    assert measured == 6


def test_a_stopped_study_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(study.DEFENCES, "gradcam", FEW[:2])
    told: list[str] = []

    def stop(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "out", command="study", settings={}) as run:
        small()(run, say=stop)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        small()(run, say=told.append)
    # the plain map on both parts of the photos, and the only setting where it judges: each is measured once
    assert len([line for line in told if "under the last attack" in line]) == 3
    assert pl.read_parquet(tmp_path / "out" / "images.parquet")["part"].value_counts().height == 2


def test_the_setting_that_withstands_most_is_chosen_among_the_faithful() -> None:
    def rows(aopc: float, overlap: float) -> list[dict[str, object]]:
        return [{"attack": "knowing", "aopc": aopc, "topk_intersection": overlap}]

    plain, mild, strong, _ = FEW
    found = {plain.text: rows(0.5, 0.1), mild.text: rows(0.46, 0.3), strong.text: rows(0.30, 0.9)}
    assert chosen([mild, strong], found, "gradcam") is mild
    found[strong.text] = rows(0.48, 0.9)
    assert chosen([mild, strong], found, "gradcam") is strong
    found[mild.text], found[strong.text] = rows(0.2, 0.3), rows(0.1, 0.9)
    assert chosen([mild, strong], found, "gradcam") is mild


def test_photos_that_choose_do_not_judge() -> None:
    import heatproof as hp

    parts, source = small()._parts(hp.load("demo"))
    assert len(source) == 5
    assert [len(parts[name]) for name in ("choose", "judge")] == [2, 3]
    distance = (parts["choose"][:, None] - parts["judge"][None]).flatten(2).norm(dim=2)
    assert distance.min() > 0.1


def test_a_plain_explainer_without_defences_is_refused() -> None:
    with pytest.raises(InputError, match="no defences of 'gradcm' are known; did you mean gradcam"):
        DefendedExplainers(plain=("gradcm",))


def test_too_few_photos_are_told(tmp_path) -> None:
    import heatproof as hp

    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match="2 photos to choose by and 3 to judge by were asked for, and there are 3"):
        replace(small(), data=str(tmp_path))._parts(hp.load("demo"))


def test_a_defence_is_noisy_whatever_its_settings() -> None:
    # the usual number of copies is not in its text
    usual = Defence("smoothed", Smoothed(SimpleGrad(), sigma=0.12))
    assert "n=" not in usual.text
    assert is_noisy(usual)
    assert not is_noisy(Defence("softplus", Softplus(SimpleGrad())))
