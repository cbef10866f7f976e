"""The face study: the split, the head, a training that can be killed, and the ranking."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from heatproof.data.sources import open_data
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.results import Run
from heatproof.studies.backbones import Training, accuracy, new_head, split, train
from heatproof.studies.chakraborty2022 import Chakraborty2022, rank, sentences

PEOPLE = ("ann", "bob", "cyd")


@pytest.fixture
def faces(tmp_path):
    """Three people, ten photos each, told apart by their colour."""
    draw = np.random.default_rng(0)
    for number, person in enumerate(PEOPLE):
        for i in range(10):
            path = tmp_path / "faces" / person / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(60, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., number] += 90
            Image.fromarray(pixels).save(path)
    return tmp_path / "faces"


def test_the_split_parts_every_class_and_loses_no_photo(faces):
    source = open_data(faces)
    parts = split(source, seed=0)
    assert [len(part) for part in parts] == [24, 3, 3]
    assert sorted(image for part in parts for image in part.ids) == sorted(source.ids)
    assert all(Counter(part.labels) == {0: n, 1: n, 2: n} for part, n in zip(parts, (8, 1, 1), strict=True))
    assert [part.ids for part in split(source, seed=0)] == [part.ids for part in parts]
    assert [part.ids for part in split(source, seed=1)] != [part.ids for part in parts]


def test_a_class_with_too_few_photos_is_named(faces):
    for i in range(8):
        (faces / "bob" / f"{i}.png").unlink()
    with pytest.raises(InputError, match=r"class bob of .* has 2 photos, expected at least 3"):
        split(open_data(faces))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_a_new_head_has_the_new_classes_and_is_seeded(name):
    model, again = (load(f"{name}(weights=None)") for _ in range(2))
    model.input_size = again.input_size = 64
    state = torch.random.get_rng_state()
    for one in (model, again):
        new_head(one, PEOPLE, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.classes == list(PEOPLE)
    heads = [list(one.parameters())[-2] for one in (model, again)]
    assert torch.equal(*heads)


def test_a_head_that_is_not_last_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 5)
            self.stem = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.head(self.stem(x).mean((2, 3)))

    with pytest.raises(ModelError, match="'stem', is not its head: 5 outputs"):
        new_head(Classifier(Odd(), input_size=8), ["a", "b", "c"])


def test_a_killed_training_ends_with_the_same_weights(tmp_path, faces):
    class Killed(Exception):
        pass

    def stop(text):
        raise Killed

    def model():
        made = load("demo")
        made.input_size = 32
        new_head(made, PEOPLE)
        return made

    source, asked = open_data(faces), Training(epochs=2, batch_size=8)
    whole, killed = model(), model()
    with Run.start(tmp_path / "a", command="study", settings={}) as run:
        train(whole, source, asked, run, "net", say=lambda text: None)
    told = []
    with pytest.raises(Killed), Run.start(tmp_path / "b", command="study", settings={}) as run:
        train(killed, source, asked, run, "net", say=lambda text: told.append(text) if not told else stop(text))
    killed = model()
    with Run.start(tmp_path / "b", command="study", settings={}) as run:
        train(killed, source, asked, run, "net", say=lambda text: None)
        assert not run.path("models/net.partial.pt").exists()
        again = model()
        train(again, source, asked, run, "net", say=stop)
    for a, b, c in zip(whole.parameters(), killed.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not killed.training


def test_the_study_trains_attacks_and_ranks(tmp_path, faces):
    study = Chakraborty2022(str(faces), ("demo",), size=32, epochs=10, lr=0.003, batch_size=8, epsilons=(0.05, 0.2))
    told = []
    with Run.start(tmp_path / "out", command="study", settings={"asked": study}) as run:
        summary = study(run, say=told.append)
    assert summary["split"] == {"train": 24, "validation": 3, "test": 3}
    assert [entry["model"] for entry in summary["trained"]] == ["demo"]
    (first,) = summary["ranking"]
    assert first["trainings"] == 1
    assert first["rank"] == 1
    assert first["accuracy"] > 0.6
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    mods = table.filter(pl.col("epsilon") > 0).group_by("epsilon").agg(pl.col("nissim").mean()).sort("epsilon")
    assert list(first["mod_per_epsilon"].values()) == pytest.approx(mods["nissim"].to_list(), abs=1e-6)
    assert set(Chakraborty2022.columns) <= set(summary["rows"][0])


def test_accuracy_is_the_share_of_photos_whose_class_is_predicted(faces):
    """The brightest channel is the person: a network that reads it is always right, one that sees red a third."""

    class Blind(nn.Module):
        def forward(self, means):
            return means * torch.tensor([1.0, 0.0, 0.0])

    class Next(nn.Module):
        def forward(self, means):
            return means.roll(1, 1)

    means, source = [nn.AdaptiveAvgPool2d(1), nn.Flatten()], open_data(faces)
    for more, expected in (((), 1.0), ((Blind(),), 1 / 3), ((Next(),), 0.0)):
        model = Classifier(nn.Sequential(*means, *more), classes=PEOPLE, input_size=32)
        assert accuracy(model, source, batch_size=7) == expected


def test_the_ranking_is_by_the_mean_mod_and_held_against_the_paper():
    rows = [
        {"model": model, "attack": "FGSM()", "epsilon": 0.1, "mod": mod, "vid": 0.1, "vid_per_image": 0.2}
        for model, mod in (("vgg16", 0.1), ("resnet50", 0.3), ("resnet101", 0.4))
    ]
    trained = [{"model": row["model"], "backbone": row["model"], "test": 0.9} for row in rows]
    rows.append({**rows[0], "model": "vgg16 (2)", "mod": 0.2})
    trained.append({"model": "vgg16 (2)", "backbone": "vgg16", "test": 0.7})
    ranking = rank(rows, trained)
    assert [entry["backbone"] for entry in ranking] == ["vgg16", "resnet50", "resnet101"]
    assert ranking[0]["mod"] == pytest.approx(0.15)
    assert ranking[0]["accuracy"] == pytest.approx(0.8)
    first, *told = sentences(ranking, 10)
    assert "vgg16 (MOD 0.150, VID 0.100, accuracy 80.0%), resnet50" in first
    assert told == [
        "vgg16 shifts less than resnet50, as the paper finds.",
        "vgg16 shifts less than resnet101, as the paper finds.",
        "resnet101 shifts more than resnet50, unlike what the paper finds.",
    ]


def test_bad_faces_are_named(tmp_path, faces):
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        with pytest.raises(InputError, match="at least one backbone"):
            Chakraborty2022(str(faces), ())(run)
        with pytest.raises(InputError, match="holds 0 identities"):
            Chakraborty2022(str(faces / "ann"), ("demo",))(run)
