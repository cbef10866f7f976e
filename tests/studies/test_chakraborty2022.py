"""The face study: the split, the head, a training that can be killed, and the ranking."""

import subprocess
import sys
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from safetensors.torch import load_file
from torch import nn

from heatproof.data.sources import open_data
from heatproof.errors import InputError, ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.preprocessing import Preprocessing
from heatproof.results import Run
from heatproof.studies.backbones import Training, accuracy, new_head, split, train
from heatproof.studies.chakraborty2022 import Chakraborty2022
from heatproof.studies.ranking import Trained, hold_against, rank, sentences

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


# faces of 32 pixels leave a single cell of the last stage, which is remarked on
@pytest.mark.filterwarnings("ignore:at this size of image")
def test_two_trainings_of_two_backbones_from_scratch_in_bf16(tmp_path, faces):
    study = Chakraborty2022(
        str(faces),
        ("resnet18", "squeezenet1_1"),
        pretrained=False,
        size=32,
        shares=(0.5, 0.1, 0.4),
        epochs=1,
        rates=(1e-3, 1e-4),
        warmup=0.25,
        augment="zoom",
        train_precision="bf16",
        batch_size=5,
        repeats=2,
        epsilons=(0.1,),
    )
    before = torch.random.get_rng_state()
    with Run.start(tmp_path / "out", command="study", settings={"asked": study}) as run:
        summary = study(run, say=lambda text: None)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert summary["split"] == {"train": 15, "validation": 3, "test": 12}
    assert [entry["model"] for entry in summary["trained"]] == [
        *("resnet18 (1)", "squeezenet1_1 (1)", "resnet18 (2)", "squeezenet1_1 (2)")
    ]
    weights = [tmp_path / "out" / "models" / f"resnet18-{repeat}.safetensors" for repeat in (0, 1)]
    first, second = (load_file(file) for file in weights)
    assert first["fc.weight"].shape == (3, 512)
    assert first["fc.weight"].dtype == torch.float32
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    # the same seed draws the same weights, whatever was drawn before
    torch.rand(3)
    again = study._classifier("resnet18", PEOPLE, 0)
    torch.rand(5)
    assert again.preprocessing == Preprocessing(32)  # as in training, whatever published weights want
    twice = study._classifier("resnet18", PEOPLE, 0)
    assert torch.equal(again.get_parameter("network.conv1.weight"), twice.get_parameter("network.conv1.weight"))
    assert {entry["trainings"] for entry in summary["ranking"]} == {2}
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    assert table["model"].n_unique() == 4


def test_the_rate_climbs_falls_and_is_held_where_no_warmup_is_wanted():
    for warmup, peak in ((0.25, 5), (0.0, 0)):
        optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = Training(lr=0.1, warmup=warmup).schedule(optimizer, 24)
        rates = []
        for _ in range(24):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert np.argmax(rates) == peak
        assert max(rates) == pytest.approx(0.1)
        assert rates[-1] < 0.002
        assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.slow
def test_two_processes_share_the_trainings_and_end_with_the_same_numbers(tmp_path, faces):
    words = ["study", "chakraborty2022", "--set", f"data={faces}", "--set", "backbones=demo", "--set"]
    words += ["backbones=resnet18(weights=None)", "--set", "size=32", "--set", "epochs=1", "--set", "repeats=2"]
    words += ["--device", "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    tables = []
    for name, start in (("one", [sys.executable]), ("two", launch)):
        subprocess.run([*start, "-m", "heatproof", *words, "--out", tmp_path / name], check=True, capture_output=True)
        tables.append(pl.read_parquet(tmp_path / name / "images.parquet"))
    assert_frame_equal(*tables, abs_tol=1e-6)


def moved(levels, photos=40, seed=0):
    """Rows and a table of models whose NISSIM has these means per epsilon, with a little noise per photo."""
    draw = np.random.default_rng(seed)
    table = pl.DataFrame(
        {"model": model, "attack": "FGSM()", "epsilon": epsilon, "image": f"{photo:02}", "nissim": value}
        for model, means in levels.items()
        for epsilon, mean in means.items()
        for photo, value in enumerate(mean + draw.normal(0, 0.01, photos))
    )
    rows = []
    for model in levels:
        own = table.filter(pl.col("model") == model)
        mods = own.group_by("epsilon").agg(pl.col("nissim").mean()).sort("epsilon")
        shared = {
            "model": model,
            "attack": "FGSM()",
            "vid": float(np.std(mods["nissim"].to_numpy())),
            "vid_per_image": 0,
        }
        rows += [{**shared, "epsilon": epsilon, "mod": mod} for epsilon, mod in mods.iter_rows()]
    return rows, table


def test_the_ranking_is_by_the_mean_mod_and_held_against_the_paper():
    levels = {
        "vgg16_bn": {0.01: 0.10, 0.1: 0.14},
        "resnet50": {0.01: 0.30, 0.1: 0.36},
        "resnet101": {0.01: 0.40, 0.1: 0.40},
        "vgg16_bn (2)": {0.01: 0.20, 0.1: 0.24},
        "resnet50 (2)": {0.01: 0.30, 0.1: 0.36},
        "resnet101 (2)": {0.01: 0.20, 0.1: 0.40},
    }
    rows, table = moved(levels)
    trained = [Trained(name, name.removesuffix(" (2)"), 1.0, 0.7 if "2)" in name else 0.9) for name in levels]
    ranking = rank(rows, table, trained)
    assert [entry.backbone for entry in ranking] == ["vgg16_bn", "resnet50", "resnet101"]
    first = ranking[0]
    assert first.trainings == 2
    assert first.accuracy == pytest.approx(0.8)
    assert first.mod.value == pytest.approx(0.17, abs=0.005)
    assert first.vid.value == pytest.approx(0.02, abs=0.005)  # two epsilons 0.04 apart, in both trainings
    for found in (first.mod, first.vid):
        assert found.low < found.value < found.high < found.low + 0.02
    claims = {(claim.less, claim.more, claim.measure): claim for claim in hold_against(ranking)}
    assert len(claims) == 6
    assert claims["vgg16_bn", "resnet50", "mod"].verdict == "as"
    assert claims["vgg16_bn", "resnet50", "mod"].difference.value == pytest.approx(-0.16, abs=0.005)
    assert claims["vgg16_bn", "resnet50", "vid"].difference.value == pytest.approx(-0.01, abs=0.005)
    # 0.40 against 0.33, then 0.30 against 0.33: photos are certain of the mean, the trainings are not
    split_up = claims["resnet101", "resnet50", "mod"]
    assert split_up.difference.low > 0
    assert (split_up.agreeing, split_up.verdict) == (1, "undecided")
    kept = split_up.plain()
    assert (kept["verdict"], kept["less"], kept["measure"]) == ("undecided", "resnet101", "mod")
    assert kept["difference"]["low"] == split_up.difference.low
    told = sentences(ranking, list(claims.values()), 40)
    assert "vgg16_bn (MOD 0.170, VID 0.020, accuracy 80.0%), resnet50" in told[0]
    assert told[1].startswith("vgg16_bn shifts less than resnet50 (MOD -0.1")
    assert told[1].endswith("2 of 2 trainings), as the paper finds.")


def test_a_claim_turned_round_is_said_to_be_unlike_the_paper():
    rows, table = moved({"resnet50": {0.01: 0.1, 0.1: 0.2}, "resnet101": {0.01: 0.3, 0.1: 0.6}})
    ranking = rank(rows, table, [Trained(name, name, 1.0, 1.0) for name in ("resnet50", "resnet101")])
    claims = hold_against(ranking)
    assert [claim.verdict for claim in claims] == ["unlike", "unlike"]
    assert claims[0].sentence().startswith("resnet101 shifts more than resnet50 (MOD +0.")
    assert claims[0].sentence().endswith("]), unlike what the paper finds.")
    rows, table = moved({"resnet50": {0.01: 0.3, 0.1: 0.6}, "resnet101": {0.01: 0.1, 0.1: 0.2}})
    one_did_not_learn = [Trained("resnet50", "resnet50", 1.0, 0.9), Trained("resnet101", "resnet101", 0.1, 0.1)]
    claim = hold_against(rank(rows, table, one_did_not_learn))[0]
    assert claim.difference.high < 0  # "as the paper finds", were it not for the accuracy
    assert claim.verdict == "untrained"
    assert "gets 10% of the test photos right" in claim.sentence()
    assert "not tested here" in sentences(ranking[:1], hold_against(ranking[:1]), 40)[1]


def test_bad_faces_are_named(tmp_path, faces):
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        with pytest.raises(InputError, match="expected a rate for each of 1 backbones, got 2"):
            Chakraborty2022(str(faces), ("demo",), rates=(1e-3, 1e-3))(run)
        with pytest.raises(InputError, match="shares of training, validation and test are positive and make 1"):
            Chakraborty2022(str(faces), ("demo",), shares=(0.5, 0.5))(run)
        with pytest.raises(InputError, match="at least one backbone"):
            Chakraborty2022(str(faces), ())(run)
        with pytest.raises(InputError, match="holds 0 identities"):
            Chakraborty2022(str(faces / "ann"), ("demo",))(run)


def test_the_first_identities_alone_are_taken_where_so_many_are_asked_for(faces):
    every, two = (Chakraborty2022(str(faces), ("demo",), identities=count)._faces() for count in (0, 2))
    assert (every.classes, len(every)) == (list(PEOPLE), 30)
    assert (two.classes, len(two), set(two.labels)) == (list(PEOPLE[:2]), 20, {0, 1})


def test_a_backbone_of_the_shared_folder_is_its_zoos_and_comes_at_its_own_size(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/zoo.py").write_text(
        "from torch import nn\n\n"
        "def tiny(pretrained=True):\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)\n"
        "    network = nn.Sequential(*layers)\n"
        "    network.mean, network.std, network.input_size = (0.0,) * 3, (1.0,) * 3, 24\n"
        "    network.classes = [str(number) for number in range(7)]\n"
        "    return network\n"
    )
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    for size, wanted in ((0, (24, 24)), (32, (32, 32))):
        model = Chakraborty2022("photos", ("shared:tiny",), size=size)._classifier("shared:tiny", PEOPLE, 0)
        assert (model.input_shape, model.classes) == (wanted, list(PEOPLE))
        assert model(torch.rand(2, 3, *wanted)).shape == (2, 3)
