"""The shift of heatmaps over a data set: by hand, resumed, shared, and with everything a user may get wrong."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal

from heatproof.attacks.gradient import FGSM, PGD
from heatproof.attacks.noise import RandomSign
from heatproof.attacks.objectives import misclassify
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.data.sources import open_data
from heatproof.errors import InputError, LayerError, ModelError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.manipulation.penalties import CenterMass
from heatproof.metrics.shift import mod, vid, vid_per_image
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.processes import Processes
from heatproof.results import Run
from networks import small

SIZE, CLASSES = 16, ("ant", "bee", "cat", "dog")
ASKED = Shift(
    attacks=(FGSM(), RandomSign()), epsilons=(0.02, 0.1), explainers=(GradCAM(), SimpleGrad()), part=4, shown=1
)


def network(seed: int = 0) -> Classifier:
    model = small(seed, SIZE, torch.float32)
    model.default_layer, model.name = "last", f"small{seed}"
    with torch.no_grad():  # centred on noise, or one class would always win
        noise = torch.rand(64, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
        model.network.get_parameter("head.bias").sub_(model(noise).mean(0))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "photos" / CLASSES[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(30, 220, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def shifted(out, folder, asked=ASKED, models=None, labels=True, processes=Processes(), draw=False, **more):
    def source(model):
        return open_data(folder, classes=model.classes, labels=labels)

    with Run.start(out, process=processes.index, command="shift", settings={"asked": asked}) as run:
        summary = run_shift(asked, models or [network()], source, run, processes=processes, draw=draw, **more)
    return summary, pl.DataFrame() if processes.index else pl.read_parquet(Path(out) / "images.parquet")


def test_rows_are_what_the_pieces_give_by_hand(tmp_path, folder):
    model = network()
    summary, table = shifted(tmp_path / "out", folder, models=[model])
    source = open_data(folder, classes=model.classes)
    images = torch.stack([photo.image for photo in source]).float() / 255
    labels = torch.tensor(source.labels)
    clean = GradCAM()(model, images)
    goal = misclassify(model, labels)
    levels = []
    for epsilon in ASKED.epsilons:
        adversarial = FGSM(epsilon)(goal, images)
        attacked = GradCAM()(model, adversarial, clean.targets)
        expected = nissim(clean.heatmaps, attacked.heatmaps, size=SIZE)
        levels.append(expected)
        found = table.filter(
            (pl.col("attack") == "FGSM()") & (pl.col("epsilon") == epsilon) & (pl.col("explainer") == "GradCAM()")
        )
        assert found["image"].to_list() == source.ids
        torch.testing.assert_close(torch.tensor(found["nissim"].to_list()), expected, rtol=0, atol=1e-5)
        assert found["prediction"].to_list() == attacked.logits.argmax(1).tolist()
        assert found["correct"].to_list() == (attacked.logits.argmax(1) == labels).tolist()
        assert found["target"].to_list() == clean.targets.tolist()
    row = next(
        r for r in summary["rows"] if r["epsilon"] == 0.1 and r["attack"] == "FGSM()" and r["explainer"] == "GradCAM()"
    )
    nissims = torch.stack(levels)
    assert row["mod"] == pytest.approx(float(mod(nissims[1])), abs=1e-5)
    assert row["vid"] == pytest.approx(float(vid(nissims.mean(1))), abs=1e-5)
    assert row["vid_per_image"] == pytest.approx(float(mod(vid_per_image(nissims))), abs=1e-5)
    assert row["mod_low"] <= row["mod"] <= row["mod_high"]
    assert row["top1"] == pytest.approx(
        table.filter(
            (pl.col("attack") == "FGSM()") & (pl.col("epsilon") == 0.1) & (pl.col("explainer") == "GradCAM()")
        )["correct"].mean()
    )
    assert row["count"] == 10


def test_the_run_folder_holds_what_was_promised(tmp_path, folder):
    summary, table = shifted(tmp_path / "out", folder, models=[network(0), network(1)], draw=True)
    # 10 photos, 2 models, 2 explainers, clean and 2 attacks at 2 epsilons
    assert table.height == 10 * 2 * 2 * 5
    clean = table.filter(pl.col("epsilon") == 0)
    assert clean["attack"].unique().to_list() == ["clean"]
    assert clean["nissim"].sum() == 0
    assert clean["psnr"].null_count() == clean.height
    assert (tmp_path / "out" / "summary.json").exists()
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(told["rows"]) == 2 * 2 * 5
    for key in ("model", "attack", "epsilon", "explainer", "mod", "vid", "vid_per_image", "top1", "psnr", "empty_both"):
        assert key in told["rows"][0]
    assert {(row["a"], row["b"]) for row in told["paired"]} == {("small0", "small1")}
    assert all(row["p_value"] <= row["p_holm"] <= 1 for row in told["paired"])
    assert any("by VID" in line for line in summary["answer"])
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {
        "mod.png",
        "accuracy.png",
        *(f"{kind}-small{i}.png" for i in (0, 1) for kind in ("nissim", "gallery")),
    }
    assert len(list((tmp_path / "out" / "viewer").glob("*.json"))) == 10
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [model["name"] for model in record["model"]] == ["small0", "small1"]
    assert record["data"]["count"] == 10


def test_epsilon_zero_moves_nothing(tmp_path, folder):
    _, table = shifted(tmp_path / "out", folder, Shift(epsilons=(0.0,), shown=1), draw=True)
    attacked = table.filter(pl.col("attack") == "FGSM()")
    assert attacked.height == 10
    assert attacked["nissim"].to_list() == [0.0] * 10
    assert attacked["kept"].all()


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(tmp_path, folder):
    class Killed(Exception):
        pass

    done = 0

    def stop(count):
        nonlocal done
        done += count
        if done > 4:
            raise Killed

    _, expected = shifted(tmp_path / "whole", folder)
    with pytest.raises(Killed):
        shifted(tmp_path / "out", folder, advance=stop)
    parts = list((tmp_path / "out" / "parts").glob("*.parquet"))
    assert len(parts) == 1  # it was killed inside the second
    counts = []
    _, table = shifted(tmp_path / "out", folder, advance=counts.append)
    assert_frame_equal(table, expected)
    assert counts[0] == 4  # what was done is counted at once, and not done again
    assert sum(counts) == pytest.approx(10)


def test_two_processes_write_what_one_writes(tmp_path, folder):
    summary, expected = shifted(tmp_path / "one", folder)
    out = tmp_path / "two"
    # process 0 has begun the folder; process 1 then does its share before process 0 does
    begun = Run.start(out, command="shift", settings={"asked": ASKED})
    assert begun._lock is not None
    begun._lock.free()
    assert shifted(out, folder, processes=Processes(1, 2))[0] == {}
    assert len(list((out / "parts").glob("*.parquet"))) == 1
    shared, table = shifted(out, folder, processes=Processes(0, 2))
    assert_frame_equal(table, expected)
    assert shared["rows"] == summary["rows"]


def test_numbers_do_not_depend_on_the_parts(tmp_path, folder):
    _, together = shifted(tmp_path / "a", folder, Shift(part=10, shown=0))
    _, alone = shifted(tmp_path / "b", folder, Shift(part=1, shown=0))
    assert_frame_equal(together, alone, abs_tol=1e-5, rel_tol=0)


def test_photos_that_cannot_be_read_are_skipped_counted_and_listed(tmp_path, folder):
    (folder / "ant" / "broken.png").write_bytes(b"no photo")
    for name in ("w", "x", "y", "z"):
        (folder / "bee" / f"{name}.png").write_bytes(b"")
    (folder / "unicorn").mkdir()
    (folder / "unicorn" / "1.png").write_bytes(b"")
    summary, table = shifted(tmp_path / "out", folder, models=[network(0), network(1)])
    assert table["image"].n_unique() == 10
    assert [entry["image"] for entry in summary["skipped"]] == [
        "unicorn/",
        "ant/broken.png",
        "bee/w.png",
        "bee/x.png",
        "bee/y.png",
        "bee/z.png",
    ]
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 15 photos .* could be attacked; .*the file is empty"):
        shifted(tmp_path / "none", folder)


def test_without_labels_the_prediction_is_attacked_and_accuracy_unknown(tmp_path, folder):
    summary, table = shifted(tmp_path / "out", folder, Shift(epsilons=(0.1,), shown=0), labels=False, draw=True)
    assert table["label"].null_count() == table.height
    assert table["correct"].null_count() == table.height
    assert all(row["top1"] is None for row in summary["rows"])
    assert not (tmp_path / "out" / "figures" / "accuracy.png").exists()
    attacked = table.filter(pl.col("epsilon") > 0)
    assert attacked["success"].to_list() == (~attacked["kept"]).to_list()


@pytest.mark.parametrize("explain", ["clean", "adversarial", "label"])
def test_which_class_is_explained(tmp_path, folder, explain):
    _, table = shifted(tmp_path / "out", folder, Shift(epsilons=(0.2,), explain=explain, shown=0))
    clean, attacked = table.filter(pl.col("epsilon") == 0), table.filter(pl.col("epsilon") > 0)
    assert not attacked["kept"].all()
    expected = {
        "clean": clean["prediction"],
        "adversarial": attacked["prediction"],
        "label": attacked["label"],
    }[explain]
    assert attacked["target"].to_list() == expected.to_list()


def test_attacks_of_any_kind_and_on_the_heatmap(tmp_path, folder):
    asked = Shift(attacks=(PGD(steps=3), PGD(0.5, 3, "l2"), FGSM(0.05)), epsilons=(), shown=0)
    _, table = shifted(tmp_path / "out", folder, asked)
    conditions = set(table.select("attack", "epsilon").iter_rows())
    assert conditions == {("clean", 0.0), ("PGD(steps=3)", 8 / 255), ("PGD(steps=3, norm='l2')", 0.5), ("FGSM()", 0.05)}
    assert (table.filter(pl.col("attack") == "PGD(steps=3, norm='l2')")["l2"] <= 0.5 + 1e-5).all()
    asked = Shift(attacks=(PGD(steps=5),), epsilons=(0.1,), penalty=CenterMass(), shown=1)
    _, moved = shifted(tmp_path / "moved", folder, asked, draw=True)
    attacked = moved.filter(pl.col("epsilon") > 0)
    assert attacked["kept"].all()
    assert attacked["center_distance"].sum() > 0
    assert attacked["success"].to_list() == (attacked["center_distance"] > 0).to_list()


def test_mass_is_measured_in_the_boxes_where_there_are_boxes(tmp_path, folder):
    ids = open_data(folder, classes=list(CLASSES)).ids
    boxes = dict.fromkeys(ids, (0.0, 0.0, 1.0, 1.0))
    _, table = shifted(tmp_path / "out", folder, Shift(epsilons=(0.1,), shown=0), boxes=boxes)
    full = table.filter(~pl.col("empty"))
    assert full["on_object"].to_list() == pytest.approx([1.0] * full.height, abs=1e-5)
    for given, words in ((boxes, "in the object's box"), ({}, "where the clean map looks")):
        summary, _ = shifted(tmp_path / words, folder, Shift(epsilons=(0.1,), shown=0), boxes=given)
        assert any(words in line for line in summary["answer"])
    halves = dict.fromkeys(ids, (0.0, 0.0, 0.5, 1.0)), dict.fromkeys(ids, (0.5, 0.0, 1.0, 1.0))
    left, right = (
        shifted(tmp_path / f"{i}", folder, Shift(epsilons=(0.1,), shown=0), boxes=half)[1].filter(~pl.col("empty"))
        for i, half in enumerate(halves)
    )
    assert (left["on_object"] + right["on_object"]).to_list() == pytest.approx([1.0] * left.height, abs=1e-5)
    assert left["object"].unique().to_list() == ["box"]


def test_nothing_of_the_model_changed(tmp_path, folder):
    model = network().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    shifted(tmp_path / "out", folder, Shift(attacks=(FGSM(), PGD(steps=2)), epsilons=(0.1,), shown=0), models=[model])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_what_cannot_be_is_named(tmp_path, folder):
    with pytest.raises(InputError, match="write 8/255"):
        Shift(epsilons=(8,))
    with pytest.raises(InputError, match=r"FGSM\(\) at 0.1 was asked for twice"):
        Shift(attacks=(FGSM(0.1), FGSM(0.2)), epsilons=(0.1,))
    with pytest.raises(InputError, match="at least one attack"):
        Shift(attacks=())
    with pytest.raises(InputError, match="clean, adversarial, label"):
        Shift(explain="wrong")  # pyright: ignore[reportArgumentType]
    with pytest.raises(LayerError, match="did you mean last"):
        shifted(tmp_path / "layer", folder, Shift(explainers=(GradCAM("lst"),)))
    model = network()
    model.network.get_parameter("head.weight").data.fill_(torch.nan)
    with pytest.raises(ModelError, match="NaN or infinite"):
        shifted(tmp_path / "nan", folder, models=[model])
    with pytest.raises(InputError, match="is a class of the model"):
        shifted(
            tmp_path / "classes", folder, models=[Classifier(network().network, classes=list("wxyz"), input_size=SIZE)]
        )


@pytest.mark.weights
def test_half_precision_keeps_the_mod_of_real_weights(tmp_path, shared):
    from heatproof.models.loading import load

    mods = []
    for precision in ("fp32", "bf16"):
        model, hardware = load(f"{shared}/weights/zoo.py:squeezenet1_1"), Hardware("cpu", precision)
        model.input_size = 128
        with Run.start(tmp_path / precision, command="shift", settings={}) as run:
            summary = run_shift(
                Shift(epsilons=(0.01, 0.1), part=24),
                [model],
                lambda m: open_data(shared / "data/imagenet-sample", classes=m.classes, limit=24),
                run,
                hardware=hardware,
                draw=False,
            )
        mods.append([row["mod"] for row in summary["rows"]])
    assert mods[0][1] > 0.05
    assert mods[1] == pytest.approx(mods[0], abs=0.005)


@pytest.mark.weights
def test_mod_grows_with_epsilon_on_real_weights(tmp_path, shared):
    from heatproof.models.loading import load

    model = load(f"{shared}/weights/zoo.py:tinyvgg")
    names = ("n03662601", "n02165456", "n07873807", "n07720875", "n04146614", "n01882714", "n07920052", "n02509815")
    model.classes = [*names, "n07747607", "n04285008"]
    asked = Shift(epsilons=(0.002, 0.01, 0.05), shown=0)
    with Run.start(tmp_path / "out", command="shift", settings={}) as run:
        summary = run_shift(
            asked, [model], lambda m: open_data(shared / "data/imagenet-sample", classes=m.classes), run
        )
    curve = [row["mod"] for row in summary["rows"]]
    assert len(curve) == 4
    assert curve == sorted(curve)
    accuracies = [row["top1"] for row in summary["rows"]]
    assert accuracies[0] > accuracies[-1]
