"""Face verification from end to end: people kept apart, trained, attacked; and networks without a head."""

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from heatproof.data.sources import open_data
from heatproof.errors import InputError, ModelError
from heatproof.models.loading import load
from heatproof.results import Run
from heatproof.studies.backbones import headless, of_classes
from heatproof.studies.face_verification import FaceVerification


@pytest.fixture
def people(tmp_path):
    """Nine people told apart by a pattern of their own, six noisy photos each."""
    draw = np.random.default_rng(0)
    for person in "abcdefghi":
        pattern = np.kron(draw.integers(0, 160, (4, 4, 3)), np.ones((8, 8, 1)))
        for number in range(6):
            path = tmp_path / "people" / person / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pattern + draw.integers(0, 60, pattern.shape)).astype(np.uint8)).save(path)
    return tmp_path / "people"


def study(people, **more) -> FaceVerification:
    asked = {"threshold_people": 2, "test_people": 3, "pairs": 20, "epochs": 6, "lr": 0.003, "batch_size": 8}
    return FaceVerification(str(people), "demo", size=32, steps=3, epsilons=(0.02, 0.1), **{**asked, **more})


def test_people_are_in_one_part_only_and_are_numbered_anew(people):
    trained, chosen, tested = study(people)._people()
    names = [{text.split("/")[0] for text in part.ids} for part in (trained, chosen, tested)]
    assert [len(part) for part in names] == [4, 2, 3]
    assert set.union(*names) == set("abcdefghi")
    assert [part.classes for part in (trained, chosen, tested)] == [sorted(part) for part in names]
    for part in (trained, chosen, tested):
        assert [(part.classes or [])[label] for label in part.labels] == [text.split("/")[0] for text in part.ids]
    assert [part.ids for part in study(people, seed=1)._people()] != [part.ids for part in (trained, chosen, tested)]


def test_the_study_trains_tells_apart_and_attacks(people, tmp_path):
    asked = study(people)
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=lambda text: None)
    assert summary["people"] == {"train": 4, "threshold": 2, "test": 3}
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    tested = {text.split("/")[0] for text in asked._people()[2].ids}
    assert {part.split("/")[0] for text in table["image"].unique() for part in text.split("~")} <= tested
    assert summary["test_auc"] > 0.8  # the patterns are easily told apart
    rows = {(row["attack"], row["epsilon"]): row for row in summary["rows"]}
    assert [attack for attack, _ in rows] == ["clean", "FGSM()", "FGSM()", "PGD(steps=3)", "PGD(steps=3)"]
    assert rows["clean", 0.0]["top1"] > 0.6
    assert rows["PGD(steps=3)", 0.1]["top1"] < rows["clean", 0.0]["top1"]
    assert set(FaceVerification.columns) <= set(summary["rows"][0])
    assert "people never trained on are told right" in summary["answer"][0]
    assert summary["answer"][2].startswith("Under PGD(steps=3) it is ")
    assert (tmp_path / "out" / "models" / "demo.safetensors").is_file()


def test_without_its_head_a_network_gives_what_goes_into_the_head():
    model = load("resnet18(weights=None)")
    images = torch.rand(2, 3, 64, 64)
    seen = []
    model.get_submodule("network.fc").register_forward_hook(lambda module, given, output: seen.append(given[0]))
    with torch.no_grad():
        model(images)
        headless(model)
        assert torch.equal(model(images), seen[0])
    assert model.classes is None
    with pytest.raises(ModelError, match=r"ends in Conv2d 'classifier\.1'; an embedding"):
        headless(load("squeezenet1_1(weights=None)"))


def test_too_few_people_are_named(people, tmp_path):
    with (
        Run.start(tmp_path / "out", command="study", settings={}) as run,
        pytest.raises(InputError, match="holds 9 identities, of which 4 are for the threshold and 4 for the test"),
    ):
        study(people, threshold_people=4, test_people=4)(run)


def test_classes_chosen_of_a_source(people):
    chosen = of_classes(open_data(people), [4, 1])
    assert chosen.classes == ["e", "b"]
    assert sorted(set(zip(chosen.labels, (text[0] for text in chosen.ids), strict=True))) == [(0, "e"), (1, "b")]
