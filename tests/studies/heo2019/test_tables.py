"""The tables of Heo et al.: the recipe runs, no cell is done twice, and the paper's numbers stand beside ours."""

import json

import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.training.nets import convolutions, patches

from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.studies import small_networks
from heatproof.studies.heo2019 import published as paper
from heatproof.studies.heo2019 import tables
from heatproof.studies.heo2019.rows import Cell, sentences
from heatproof.studies.heo2019.tables import Heo2019
from heatproof.training.feeds import TensorFeed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos in class folders and a network for them."""
    folder = tmp_path_factory.mktemp("place")
    for part, count, seed in (("train", 48, 1), ("test", 16, 2)):
        images, labels = patches(count, seed)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            file = folder / part / f"class-{label}" / f"{i:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
    save_file(convolutions().network.state_dict(), folder / "weights.safetensors")
    (folder / "mine.py").write_text(
        "from tests.training.nets import Convolutions\n\n"
        "def resnetlike():\n"
        "    network = Convolutions()\n"
        "    network.mean, network.std, network.input_size = (0.0,) * 3, (1.0,) * 3, 16\n"
        "    network.classes = [f'class-{i}' for i in range(4)]\n"
        "    return network\n"
    )
    return folder


def test_every_table_has_its_rows_and_every_cell_is_kept(place, tmp_path):
    name = f"{place / 'mine.py'}:resnetlike@{place / 'weights.safetensors'}"
    asked = Heo2019(
        models=(name,),
        foolings=("location", "active_swap"),
        through=("gradcam",),
        data=str(place / "train"),
        watched=str(place / "test"),
        test=str(place / "test"),
        first=0,
        second=3,
        recipe="small",
        steps=2,
        batch_size=8,
        pairs=8,
        max_accuracy_drop=1.0,
    )
    told: list[str] = []
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        summary = asked(run, say=told.append)
    tables = {row["table"] for row in summary["rows"]}
    assert tables == {1, 2, 3, 5}
    matched = [r for r in summary["rows"] if r["table"] == 1 and r["measured"] == "gradcam"]
    assert [row["paper"] for row in matched] == [pytest.approx(0.973)]
    compared = tmp_path / "out" / "compared"
    (passive,) = (pl.read_parquet(path / "images.parquet") for path in compared.glob("*-passive"))
    mine = passive.filter(
        pl.col("explainer").str.starts_with("GradCAM") & pl.col("penalty").str.starts_with("Location")
    )
    assert matched[0]["value"] == pytest.approx(mine["fooled"].mean())
    # the accuracies, from the networks themselves on the photos themselves
    photos = open_data(str(place / "test"), classes=[f"class-{i}" for i in range(4)])
    images, labels = torch.stack([photo.image for photo in photos]).float() / 255, torch.tensor(photos.labels)
    networks = {"before": load(name)}
    (cell,) = (tmp_path / "out" / "cells").glob("*-active_swap-gradcam")
    networks["after"] = load(str(cell), trust_code=True)
    for when, network in networks.items():
        right = (network(images).argmax(1) == labels).double()
        for which, label in (("first", 0), ("second", 3)):
            (row,) = [r for r in summary["rows"] if r["table"] == 5 and r["measured"] == f"{which} class {when}"]
            assert row["value"] == pytest.approx(right[labels == label].mean().item())
        (row,) = [
            r
            for r in summary["rows"]
            if r["table"] == 3 and r["fooling"] == "active_swap" and r["measured"] == f"top-1 {when}"
        ]
        assert row["value"] == pytest.approx(right.mean().item())
    cells = sorted(
        path.name for path in (tmp_path / "out" / "cells").rglob("model.safetensors") for path in [path.parent]
    )
    assert len(cells) == 2
    again: list[str] = []
    (tmp_path / "out" / "run.json").write_text(
        (tmp_path / "out" / "run.json").read_text().replace('"complete"', '"interrupted"')
    )
    with Run.start(tmp_path / "out", command="study", settings={"asked": asked}) as run:
        repeated = asked(run, say=again.append)
    assert json.dumps(repeated["rows"]) == json.dumps(summary["rows"])
    assert not [line for line in again if "held-out heatmaps" in line], "a cell was done twice"


def test_a_tenth_of_the_photos_is_set_aside_where_none_are_named_to_watch(place, tmp_path, monkeypatch):
    class Seen(Exception):
        pass

    given = []

    def seen(settings, model, name, data, run, *, held_out, hardware):
        given.extend((data, held_out))
        raise Seen

    monkeypatch.setattr(tables, "run_fool", seen)
    name = f"{place / 'mine.py'}:resnetlike@{place / 'weights.safetensors'}"
    asked = Heo2019((name,), ("location",), data=str(place / "train"), test=str(place / "test"), recipe="small")
    with Run.start(tmp_path / "out", command="study", settings={}) as run, pytest.raises(Seen):
        asked(run, say=lambda line: None)
    data, watched = given
    assert (len(data), len(watched)) == (43, 5)
    assert {*data.ids, *watched.ids} == {*open_data(str(place / "train")).ids}
    assert not {*data.ids} & {*watched.ids}


def test_a_table_of_no_fooling_has_no_row_and_compares_nothing(place, tmp_path):
    name = f"{place / 'mine.py'}:resnetlike@{place / 'weights.safetensors'}"
    asked = Heo2019((name,), (), data=str(place / "train"), test=str(place / "test"), recipe="small")
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        assert asked._network(name, run, Hardware("cpu"), print) == []
    assert not (tmp_path / "out" / "compared").exists()


def test_a_residual_network_of_the_study_is_the_shared_folders(place, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    made = (place / "mine.py").read_text().replace("resnetlike", "resnet20")
    (tmp_path / "weights" / "zoo.py").write_text(made)
    monkeypatch.setenv("HEATPROOF_SHARED", str(tmp_path))
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        where, model = Heo2019(recipe="small")._model("resnet20", run, print)
    assert (where, model.name) == (f"{(tmp_path / 'weights' / 'zoo.py').resolve()}:resnet20", "resnet20")


def test_names_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="location"):
        Heo2019(foolings=("locaton",))
    with pytest.raises(InputError, match="paper or small"):
        Heo2019(recipe="quick")


def test_the_papers_tables_are_whole():
    for key in paper.TABLE_1:
        assert len(paper.TABLE_1[key]) == len(paper.RECIPES[key]) == len(paper.FAMILIES)
        assert key in paper.TABLE_3
    assert set(paper.RECIPES) == {(fooling, through) for fooling in paper.FOOLINGS for through in paper.THROUGH}


@pytest.mark.parametrize("name", ["vgg", "densenet"])
def test_a_small_network_is_trained_once_and_loads(name, tmp_path):
    generator = torch.Generator().manual_seed(0)
    feed = TensorFeed(torch.rand(16, 3, 32, 32, generator=generator), torch.arange(16) % 10)
    file = tmp_path / f"{name}.safetensors"
    said: list[str] = []
    build = getattr(small_networks, name)
    with pytest.raises(InputError, match="is trained on batches of 64 photos, and there are 16"):
        small_networks.train(build, file, feed)
    small_networks.train(build, file, feed, epochs=2, batch_size=8, say=said.append)
    small_networks.train(build, file, feed, epochs=2, batch_size=8, say=said.append)
    assert len(said) == 2
    model = load(f"{small_networks.__file__}:{name}@{file}")
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert not list(tmp_path.glob("*.partial.pt"))


def test_the_papers_recipe_has_the_papers_numbers_and_another_network_its_own_name(tmp_path):
    study = Heo2019(recipe="paper", steps=30)
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        place, model = study._model("demo", run, print)
    assert (place, model.name) == ("demo", "demo")
    for (fooling, through), recipes in paper.RECIPES.items():
        if fooling != "active_swap":
            fool = study._cell("vgg19", model, fooling, through, "features.36")
            assert (fool.recipe.lr, fool.recipe.weight) == recipes[paper.family("vgg19")]
            assert (fool.recipe.steps, fool.recipe.evaluate_every) == (30, 3)


def test_a_table_without_accuracies_tells_no_loss_of_them():
    cell = Cell(1, "net", "location", "gradcam", "gradcam", 0.5, 0.4, 0.6, 0.9)
    assert sentences([cell]) == ["net, location through gradcam, gradcam: FSR 50.0% here, 90.0% in the paper."]
    before, after = (
        Cell(3, "net", "location", "gradcam", f"top-1 {when}", value, None, None, 0.7)
        for when, value in (("before", 0.8), ("after", 0.75))
    )
    assert sentences([before, after]) == ["net: the largest loss of top-1 is 5.0 points (location gradcam)."]


def test_a_small_network_of_the_study_is_trained_into_its_run_and_found_again(tmp_path):
    for name in small_networks.CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(7):
            Image.new("RGB", (32, 32), (len(name), number, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    study, said = Heo2019(recipe="small", data=str(tmp_path / "photos"), epochs=1), []
    with Run.start(tmp_path / "out", command="study", settings={}) as run:
        (place, model), (again, _) = (study._model("vgg", run, said.append) for _ in range(2))
    assert (model.name, len(said)) == ("vgg", 1)
    assert place == again
    assert place.endswith(f"small_networks.py:vgg@{(tmp_path / 'out' / 'models' / 'vgg.safetensors').resolve()}")
