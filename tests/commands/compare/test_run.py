"""Fool a network into a run folder, load it again, and compare it with the clean one."""

import json

import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from tests.training.nets import Convolutions, convolutions, patches

from heatproof.commands.compare.run import Compare, Fooled, run_compare
from heatproof.commands.fool.edit import Edit, run_edit
from heatproof.commands.fool.run import Fool, run_fool
from heatproof.data.listing import Listing
from heatproof.data.sources import Source, part_source
from heatproof.errors import InputError, RunError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.explainers.occlusion import Occlusion
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import ActiveSwap, CenterMass, Location, TopK
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.training.data import PhotoFeed, feed_photos
from heatproof.training.feeds import turns
from heatproof.training.settings import FineTune

RECIPE = FineTune(steps=120, lr=1e-2, batch_size=16, evaluate_every=30, max_accuracy_drop=0.05)


def drawn(count: int, seed: int, broken: tuple[int, ...] = (), labelled: bool = True) -> Source:
    """Patches as a source of photos; some cannot be read."""
    images, labels = patches(count, seed)
    pixels = (images * 255).round().to(torch.uint8)

    def fetch(place: int) -> torch.Tensor:
        if place in broken:
            raise InputError("the file ends too early")
        return pixels[place]

    ids = [f"patch-{place:03d}.png" for place in range(count)]
    classes = [f"class-{i}" for i in range(4)]
    told = labels.tolist() if labelled else [-1] * count
    listing = Listing(ids, told, fetch, lambda place: pixels[place].numpy().tobytes(), classes=classes)
    return Source(f"patches-{seed}", listing, range(count))


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A file with a factory, as a user brings his own network, and what ``load`` calls it."""
    folder = tmp_path_factory.mktemp("model")
    model, (images, labels) = convolutions(), patches(128, seed=5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(60):
        chosen = torch.from_numpy(turns(len(images), 32, 0, step))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    save_file(model.network.state_dict(), folder / "weights.safetensors")
    (folder / "mine.py").write_text(
        "from tests.training.nets import Convolutions\n\n"
        "def build():\n"
        "    network = Convolutions()\n"
        "    network.mean, network.std, network.input_size = (0.0,) * 3, (1.0,) * 3, 16\n"
        "    network.classes = [f'class-{i}' for i in range(4)]\n"
        "    return network\n"
    )
    return f"{folder / 'mine.py'}:build@{folder / 'weights.safetensors'}"


@pytest.fixture(scope="module")
def fooled_run(named, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fooled"
    asked = Fool(Location(), GradCAM("stage2"), RECIPE, shown=2)
    with Run.start(folder, command="fool", settings={"asked": asked}) as run:
        summary = run_fool(asked, load(named), named, drawn(96, 1, broken=(3,)), run, held_out=drawn(40, 2))
    return folder, summary


def compare(named, folder, out, asked, source):
    fooled = Fooled(load(str(folder), trust_code=True), GradCAM("stage2"), None)
    with Run.start(out, command="compare", settings={"asked": asked}) as run:
        return run_compare(asked, load(named), [fooled], source, run)


def test_a_fooled_run_folder_is_a_model(fooled_run, named):
    folder, summary = fooled_run
    row = summary["rows"][0]
    assert row["fsr"] > 0.9
    assert row["fsr_low"] <= row["fsr"] <= row["fsr_high"]
    assert row["fsr"] == pytest.approx(row["watched_fsr"])
    assert row["top1_clean"] - row["top1_fooled"] <= 0.05 + 1e-6
    assert row["count"] == 40
    assert [entry["image"] for entry in summary["skipped"]] == ["patch-003.png"]
    files = {path.name for path in folder.iterdir()}
    assert {"run.json", "summary.json", "images.parquet", "history.parquet", "model.safetensors", "figures"} <= files
    assert "checkpoint.pt" not in files
    again = load(str(folder), trust_code=True)
    assert fingerprint(again) != fingerprint(load(named))
    images, labels = patches(40, 2)
    pixels = (images * 255).round() / 255
    maps = GradCAM("stage2")(again, pixels, labels).heatmaps
    assert (Location().test_loss(maps, maps) <= 0.2).double().mean().item() == pytest.approx(row["fsr"])
    history = pl.read_parquet(folder / "history.parquet")
    assert history["step"].to_list() == list(range(history.height))
    assert json.loads((folder / "run.json").read_text())["model"][0]["name"] == named


def test_on_the_clean_model_the_comparison_finds_nothing(named, tmp_path):
    asked = Compare(
        (GradCAM("stage2"), LRP(layer="stage2")), (Location(), TopK(), CenterMass(), ActiveSwap(0, 3)), pairs=8, shown=1
    )
    clean = load(named)
    with Run.start(tmp_path / "out", command="compare", settings={"asked": asked}) as run:
        summary = run_compare(asked, clean, [Fooled(load(named))], drawn(24, 4), run)
    for row in summary["rows"]:
        assert row["fsr"] == 0
        assert row["agreement"] == 1
        assert row["top1_clean"] == row["top1_fooled"]
        assert row["nissim"] == pytest.approx(0, abs=1e-6)
    assert {row["penalty"] for row in summary["rows"]} == {repr(p) for p in asked.penalties}


def test_a_planted_lie_is_found_row_by_row(fooled_run, named, tmp_path):
    folder, told = fooled_run
    asked = Compare(
        (GradCAM("stage2"), LRP(layer="stage2"), Occlusion(patch=4, stride=4)), (Location(), CenterMass()), shown=2
    )
    summary = compare(named, folder, tmp_path / "out", asked, drawn(40, 2))
    rows = {(row["explainer"], row["penalty"]): row for row in summary["rows"]}
    matched = rows["GradCAM(layer='stage2')", "Location()"]
    assert matched["fsr"] == pytest.approx(told["rows"][0]["fsr"])
    for name in ("fsr", "top1_clean", "top1_fooled", "top5_clean", "top5_fooled", "agreement", "spearman", "nissim"):
        assert matched[f"{name}_low"] <= matched[name] <= matched[f"{name}_high"]
    table = pl.read_parquet(tmp_path / "out" / "images.parquet")
    mine = table.filter((pl.col("explainer") == "GradCAM(layer='stage2')") & (pl.col("penalty") == "Location()"))
    assert mine["fooled"].mean() == pytest.approx(matched["fsr"])
    images, labels = patches(40, 2)
    pixels = (images * 255).round() / 255
    lying = GradCAM("stage2")(load(str(folder), trust_code=True), pixels, labels).heatmaps
    torch.testing.assert_close(
        torch.tensor(mine["test_loss"].to_list()),
        Location().test_loss(lying, lying).double(),
        rtol=1e-4,
        atol=1e-5,
        check_dtype=False,
    )
    measured = {(row["penalty"], row["measured"]): row["fsr"] for row in summary["transfer"]}
    assert measured["Location()", "GradCAM(layer='stage2')"] == matched["fsr"]
    assert {row["fooled"] for row in summary["transfer"]} == {"GradCAM(layer='stage2')"}
    counts = {row["class"]: row["count"] for row in summary["classes"]}
    assert counts == {f"class-{i}": 10 for i in range(4)}
    strongest = max(summary["rows"], key=lambda row: row["fsr"])
    hits = round(strongest["fsr"] * strongest["count"])
    assert f": {hits} of {strongest['count']} heatmaps (" in summary["answer"][0]
    assert f"%) of {strongest['explainer']} " in summary["answer"][0]
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"compared-fooled.png", "transfer-Location.png", "transfer-CenterMass.png"} <= figures


def test_photos_without_labels_count_for_agreement_alone(fooled_run, named, tmp_path):
    asked = Compare((GradCAM("stage2"),), (Location(),), shown=1)
    summary = compare(named, fooled_run[0], tmp_path / "out", asked, drawn(12, 2, labelled=False))
    (row,) = summary["rows"]
    assert row["top1_clean"] is None
    images, _ = patches(12, 2)
    pixels = (images * 255).round() / 255
    same = load(named)(pixels).argmax(1) == load(str(fooled_run[0]), trust_code=True)(pixels).argmax(1)
    assert row["agreement"] == pytest.approx(same.double().mean().item())
    assert summary["classes"] == []


def test_models_of_other_classes_are_refused(named, tmp_path):
    other = Classifier(Convolutions(3).eval(), classes=["x", "y", "z"], input_size=16)
    asked = Compare((GradCAM("stage2"),), (Location(),))
    with (
        Run.start(tmp_path / "out", command="compare", settings={}) as run,
        pytest.raises(InputError, match="different classes"),
    ):
        run_compare(asked, load(named), [Fooled(other)], drawn(8, 1), run)
    with pytest.raises(InputError, match="none twice"):
        Compare((GradCAM(), GradCAM()))


def test_a_run_with_other_settings_or_data_is_refused(fooled_run, named):
    folder, _ = fooled_run
    with pytest.raises(RunError, match="holds a run with other settings"):
        Run.start(folder, command="fool", settings={"asked": Fool(TopK(), GradCAM("stage2"), RECIPE)})


def test_data_that_changed_on_the_way_are_refused(named, tmp_path):
    asked = Fool(Location(), GradCAM("stage2"), FineTune(**{**vars(RECIPE), "steps": 30}))

    def stop(row):
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Run.start(tmp_path / "run", command="fool", settings={"asked": asked}) as run,
    ):
        run_fool(asked, load(named), named, drawn(48, 1), run, advance=stop)
    with (
        pytest.raises(RunError, match="was begun with data"),
        Run.start(tmp_path / "run", command="fool", settings={"asked": asked}) as run,
    ):
        run_fool(asked, load(named), named, drawn(48, 7), run)


def test_photos_are_fed_in_the_same_order_from_files_and_from_memory():
    source = drawn(20, 3)
    files, memory = PhotoFeed(source, 16), feed_photos(source, 16)
    for one, two in zip(files.stream(6, 5, seed=2), memory.stream(6, 5, seed=2), strict=True):
        assert one.positions.tolist() == two.positions.tolist()
        torch.testing.assert_close(one.images, two.images)
        assert one.labels.tolist() == two.labels.tolist()


def test_a_swap_makes_its_images_from_the_data(named, tmp_path):
    asked = Fool(
        ActiveSwap("class-0", "class-3"),
        GradCAM("stage2"),
        FineTune(**{**vars(RECIPE), "steps": 6, "evaluate_every": 3}),
        pairs=16,
        pairs_held_out=8,
        shown=1,
    )
    with Run.start(tmp_path / "run", command="fool", settings={"asked": asked}) as run:
        summary = run_fool(asked, load(named), named, drawn(48, 1), run, held_out=drawn(24, 2))
    assert summary["rows"][0]["count"] == 8
    assert summary["rows"][0]["rows"] == 16
    assert summary["rows"][0]["fsr_first"] is not None


def test_opened_data_part_into_training_and_watching(named):
    train, watched = part_source(drawn(40, 1), 0.25, seed=0)
    assert (len(train), len(watched)) == (30, 10)
    assert not set(train.ids) & set(watched.ids)
    _, history = fine_tune(
        load(named),
        GradCAM("stage2"),
        Location(),
        drawn(40, 1),
        FineTune(**{**vars(RECIPE), "steps": 2, "augment": "flip"}),
    )
    assert history.rows[-1]["step"] == 2


def test_a_comparison_needs_somebody_to_compare(named, tmp_path):
    with (
        Run.start(tmp_path, command="compare", settings={}) as run,
        pytest.raises(InputError, match="a clean model and at least one that may be fooled"),
    ):
        run_compare(Compare(explainers=(GradCAM("stage2"),)), load(named), [], drawn(2, 1), run)


def test_pictures_of_photos_that_cannot_be_read_are_left_out(named, tmp_path):
    asked, model = Compare(explainers=(GradCAM("stage2"),), shown=2), load(named)
    with Run.start(tmp_path, command="compare", settings={}) as run:
        # the first and the last are those that would be drawn
        run_compare(asked, model, [Fooled(model)], drawn(5, 1, broken=(0, 4)), run)
    assert not list(tmp_path.glob("figures/compared-*"))
    assert pl.read_parquet(tmp_path / "images.parquet")["image"].n_unique() == 3


def test_an_edit_needs_a_photo_that_can_be_read(named, tmp_path):
    with (
        Run.start(tmp_path, command="fool", settings={}) as run,
        pytest.raises(InputError, match="none of the 2 photos of patches-1 can be read"),
    ):
        run_edit(Edit(), load(named), named, drawn(2, 1, broken=(0, 1)), run)
