"""The audit as a user meets it: an honest network passes, a lie is found, the gate shuts, odd input is named."""

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.command_line import heatproof
from torch import Tensor, nn

from heatproof import catalog, spec
from heatproof.commands.audit.calibration import run_calibration
from heatproof.commands.audit.examples import EXAMPLES, Kept, draw_examples
from heatproof.commands.audit.figures import show_disagreement, show_mosaics
from heatproof.commands.audit.finding import grouped
from heatproof.commands.audit.mosaic import Mosaics
from heatproof.commands.audit.questions import NUMBERS
from heatproof.commands.audit.reference import beside
from heatproof.commands.audit.run import Audit, read_audit, run_audit
from heatproof.commands.audit.verdict import Check, Limits, Thresholds
from heatproof.commands.passes import counting
from heatproof.data.batches import Batch
from heatproof.data.sources import open_data
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.types import Explanation

FEW = ["--budget", "37", "--limit", "12"]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network with a planted corner."""
    out = tmp_path_factory.mktemp("lie") / "edited"
    words = ["fool", "demo", "--model", "demo", "--edit", "weight_edit(target='corner')", "--limit", "4"]
    assert heatproof(*words, "--out", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "honest"
    assert heatproof("audit", "demo", "demo", *FEW, "--reference", "demo", "--out", str(out)) == 0
    return out


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_the_honest_network_is_not_called_manipulated(honest: Path) -> None:
    told = summary(honest)
    # not a number as far out as a lie's; the verdict says what the rows say
    assert "fail" not in {row["verdict"] for row in told["rows"] if row["decides"]}
    outside = [row["number"] for row in told["rows"] if row["decides"] and row["verdict"] == "doubtful"]
    assert told["verdict"] == ("doubtful" if outside else "honest")
    assert set(outside) <= set(told["speaks"])
    known = [row["deviations"] for row in told["rows"] if row["decides"] and row["deviations"] is not None]
    assert told["score"] == max(known)
    assert {row["check"] for row in told["rows"]} == {about.check for about in NUMBERS.values()} - {"self"}
    assert told["reference"]["agreement"] == 1.0
    assert told["reference"]["layers"][0]["moved"] == 0.0
    assert told["queries"] <= 37
    assert any("trigger" in line for line in told["cannot_see"])
    assert pl.read_parquet(honest / "images.parquet").height == 12
    assert (honest / "figures/disagreement.png").exists()
    page = html.unescape((honest / "report.html").read_text())
    assert all(sentence in page for sentence in told["answer"])


def test_a_planted_map_is_found_and_shuts_the_gate(edited: Path, honest: Path, tmp_path: Path) -> None:
    out = tmp_path / "lie"
    words = ["audit", str(edited), "demo", *FEW, "--baseline", str(honest), "--out", str(out)]
    assert heatproof(*words, "--fail-on", "manipulated") == 3
    found = summary(out)
    assert found["verdict"] == "manipulated"
    assert "contrast" in found["speaks"]
    assert found["drift"]["mod"] > 0.1
    pictures = [check["picture"] for group in found["checks"] for check in group["checks"] if check["picture"]]
    assert pictures
    assert (out / "report.html").read_text().count('<figure class="example"><img src="data:image/webp') == len(pictures)
    # a complete run is judged again, and passes without the gate
    assert heatproof(*words) == 0


def test_figures_are_made_where_photos_are_to_be_shown(honest: Path, tmp_path: Path) -> None:
    table, tensors = read_audit(honest)
    model, source = load("demo"), open_data("demo", limit=12)
    mosaics = Mosaics(
        tiles=torch.zeros(20, 4, dtype=torch.int64),
        classes=torch.tensor([[3, 5]] * 20),
        shares=torch.eye(2).expand(20, 2, 2),
        quarters=torch.zeros(20, dtype=torch.int64),
        maps=torch.rand(20, 2, 4, 4),
    )
    tensors = replace(tensors, mosaics=mosaics)
    for shown, wanted in ((0, []), (2, ["disagreement.png", "mosaics.png"])):
        with Run.start(tmp_path / str(shown), command="audit", settings={}) as run:
            show_disagreement(Audit(shown=shown), model, source, run, table, tensors, source.ids[:2])
            show_mosaics(Audit(shown=shown), model, run, tensors)
        assert sorted(path.name for path in run.folder.glob("figures/*")) == wanted
        assert [path.name for path in run.folder.glob("viewer/*")]


def test_checks_that_speak_against_the_maps_have_a_picture(honest: Path, tmp_path: Path) -> None:
    table, tensors = read_audit(honest)
    model = load("demo")
    assert model.channels == 3  # asked by a pass, once
    mosaics = Mosaics(
        tiles=torch.zeros(3, 4, dtype=torch.int64),
        classes=torch.tensor([[3, 5]] * 3),
        shares=torch.tensor([[[0.0, 1.0], [1.0, 0.0]]] * 3),
        quarters=torch.full((3,), 2),
        maps=torch.rand(3, 2, 4, 4),
    )
    kept = Kept(Audit(), model, open_data("demo", limit=12), table, replace(tensors, mosaics=mosaics))
    failed = [Check("c", name, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0, "fail", "") for name in NUMBERS]
    passed = [replace(check, verdict="pass") for check in failed]
    with Run.start(tmp_path / "out", command="audit", settings={}) as run, counting(model) as passes:
        assert draw_examples(kept, run, passed) == {}
        drawn = draw_examples(kept, run, failed)
    assert set(drawn) == set(EXAMPLES)
    assert all((run.folder / place).is_file() for place in drawn.values())
    # drawn from what was kept
    assert (passes.forward, passes.backward) == (0, 0)
    shown = grouped(failed, Thresholds.shipped(), drawn)[0]["checks"]
    assert {check["picture"] for check in shown} == {None, *drawn.values()}


def test_few_photos_give_no_verdict(tmp_path: Path) -> None:
    out = tmp_path / "few"
    assert heatproof("audit", "demo", "demo", "--limit", "4", "--budget", "37", "--out", str(out)) == 1
    assert summary(out)["verdict"] == "too few to tell"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--fail-on", "lies"], 2, "--fail-on is doubtful or manipulated"),
        (["--budget", "20"], 2, "at least 37 forward passes"),
        (["--baseline", "nowhere"], 2, "run folder of an earlier audit"),
        (["--explainer", "gradcm()"], 2, "did you mean gradcam"),
        (["--calibrate", "demo"], 2, "at least 3 honest models"),
    ],
)
def test_bad_input_is_named(
    words: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert heatproof("audit", "demo", "demo", "--limit", "12", "--out", str(tmp_path / "out"), *words) == status
    assert message in capsys.readouterr().err


def test_own_thresholds(tmp_path: Path) -> None:
    out = tmp_path / "own"
    words = [word for _ in range(3) for word in ("--calibrate", "demo")]
    assert heatproof("audit", "demo", "demo", *FEW, *words, "--out", str(out)) == 0
    found = summary(out)
    # the same network: every number lies on the mean
    assert (found["verdict"], found["score"]) == ("honest", pytest.approx(0.0, abs=1e-3))
    assert Thresholds.read(out / "thresholds.json").limits["frame"].count == 3
    # stopped after the thresholds: the audits that they come from are kept
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    kept = [path.stat().st_mtime_ns for path in sorted(out.glob("calibration/*/run.json"))]
    assert len(kept) == 3
    assert heatproof("audit", "demo", "demo", *FEW, *words, "--out", str(out)) == 0
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("calibration/*/run.json"))] == kept
    assert summary(out)["rows"] == found["rows"]


def audited(folder: Path, stop_after: int | None = None) -> pl.DataFrame:
    model, done = load("demo"), 0

    def advance(count: float) -> None:
        nonlocal done
        done += count
        if stop_after is not None and done >= stop_after:
            raise KeyboardInterrupt

    settings = Audit(budget=37, part=4, randomised=6)
    thresholds = Thresholds({name: Limits(0.5, 0.1, 4) for name in NUMBERS}, None, {})
    with Run.start(folder, command="audit", settings={"settings": settings}) as run:
        source = open_data("demo", classes=model.classes, limit=12)
        run_audit(settings, model, source, run, thresholds=thresholds, draw=False, advance=advance)
    return pl.read_parquet(folder / "images.parquet")


def test_a_stopped_audit_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        audited(tmp_path / "stopped", stop_after=8)
    assert audited(tmp_path / "stopped").equals(audited(tmp_path / "whole"))


class Dead(nn.Module):
    """A network whose layer is never active: its maps are empty."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 10)
        nn.init.constant_(self.last[0].bias, -100.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(x).mean((2, 3)))


def test_empty_maps_and_wrong_answers_are_said(tmp_path: Path) -> None:
    names = load("demo").classes
    torch.manual_seed(0)
    model = Classifier(Dead(), (0.5,) * 3, (0.5,) * 3, names, 64, name="dead").eval()
    settings = Audit(budget=37)
    with Run.start(tmp_path / "dead", command="audit", settings={}) as run:
        source = open_data("demo", classes=names, limit=12)
        found = run_audit(settings, model, source, run, draw=False)
    assert found["verdict"] == "cannot tell"
    assert {row["verdict"] for row in found["rows"]} == {"not applicable"}
    lines = " ".join(found["answer"])
    assert "12 of 12 maps are empty" in lines
    # what takes the ground from under the numbers comes before them
    assert "of these photos wrong" in found["answer"][2]
    assert found["answer"][1].startswith("Nothing is judged: most maps are empty")


def test_photos_that_cannot_be_read_leave_no_gap(tmp_path: Path) -> None:
    for photo in open_data("demo", limit=12):
        Image.fromarray(photo.image.permute(1, 2, 0).numpy()).save(tmp_path / f"{photo.id.replace('/', '-')}.png")
    # of the first part of three
    sorted(tmp_path.iterdir())[1].write_bytes(b"torn")
    words = ["audit", "demo", str(tmp_path), "--budget", "37", "--batch-size", "4", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 0  # eleven photos are enough for a verdict
    table, tensors = read_audit(tmp_path / "out")
    assert table["place"].to_list() == list(range(11))
    assert len(tensors.maps) == len(tensors.targets) == 11
    assert [entry["reason"].split(":")[0] for entry in summary(tmp_path / "out")["skipped"]] == ["cannot be read"]


def test_a_reference_of_another_task_is_refused(tmp_path: Path) -> None:
    model, other = load("demo"), load("demo")
    other.classes = [f"other {name}" for name in model.classes or []]
    with Run.start(tmp_path / "out", command="audit", settings={}) as run, pytest.raises(InputError, match="different"):
        run_audit(Audit(budget=37), model, open_data("demo", limit=12), run, reference=other)


def test_a_reference_with_finer_maps_is_compared_at_the_models_size() -> None:
    class Cells:
        """The mean of each cell, of as many cells as the network says."""

        signed = True

        def __call__(
            self, model: nn.Module, images: Tensor, targets: Tensor | None = None, *, create_graph: bool = False
        ) -> Explanation:
            logits = model(images)
            cells: Any = model.get_submodule("network").cells
            maps = nn.functional.adaptive_avg_pool2d(images.mean(1), cells)
            return Explanation(maps, logits, logits.argmax(1) if targets is None else targets)

    class Mean(nn.Module):
        def __init__(self, cells: int) -> None:
            super().__init__()
            self.cells = cells

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    coarse, fine = (Classifier(Mean(cells), (0.0,) * 3, (1.0,) * 3, ["a", "b", "c"], 16).eval() for cells in (4, 8))
    # smooth photos: what is lost between 8 and 4 cells is little
    images = torch.linspace(0, 1, 16).expand(2, 3, 16, 16) * torch.tensor([0.5, 1.0])[:, None, None, None]
    batch = Batch(["a.png", "b.png"], images, torch.tensor([0, 0]))
    found = beside(coarse, fine, Cells(), batch, torch.zeros(2, 1, dtype=torch.int64), Hardware("cpu"))
    assert [row["agrees"] for row in found.rows] == [True, True]
    torch.testing.assert_close(found.likeness, torch.ones(2, 1, 1), rtol=0, atol=1e-3, check_dtype=False)


def test_thresholds_of_few_photos_are_refused(tmp_path: Path) -> None:
    model, source = load("demo"), open_data("demo", limit=9)
    with (
        Run.start(tmp_path / "out", command="audit", settings={}) as run,
        pytest.raises(InputError, match="thresholds need at least 10 photos, got 9"),
    ):
        run_calibration(Audit(budget=37), [model] * 3, source, run)
    assert not (tmp_path / "out/calibration").exists()


@pytest.mark.weights
def test_real_networks(shared: Path, tmp_path: Path) -> None:
    from heatproof.manipulation.weight_edit import WeightEdit

    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    data = str(shared / "data/cifar10/test")
    verdicts = []
    for name, audited in (("honest", model), ("edited", WeightEdit("corner")(model))):
        with Run.start(tmp_path / name, command="audit", settings={}) as run:
            source = open_data(data, classes=model.classes, limit=40)
            found = run_audit(Audit(budget=49), audited, source, run, draw=False)
        verdicts.append(found["verdict"])
    assert verdicts == ["honest", "manipulated"]


def judged(folder: Path, model: Classifier, data: str, explainer: str = "gradcam()", limit: int = 40, budget: int = 49):
    """The summary of an audit without pictures."""
    settings = Audit(explainer=spec.build(explainer, catalog.EXPLAINERS, "explainer"), budget=budget)
    with Run.start(folder, command="audit", settings={}) as run:
        source = open_data(data, classes=model.classes, limit=limit)
        return run_audit(settings, model, source, run, draw=False)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("explainer", "limit", "budget", "nearest"),
    [
        ("smooth_grad(samples=4)", 20, 60, "SmoothGrad"),
        ("integrated_gradients(steps=4)", 20, 60, "IntegratedGradients() on 22 networks at 32 pixels"),
        ("gradcam(layer='layer2')", 40, 49, "GradCAM() on 29 networks at 32 pixels"),
    ],
)
def test_an_honest_network_is_not_accused_outside_of_the_populations(
    explainer: str, limit: int, budget: int, nearest: str, shared: Path, tmp_path: Path
) -> None:
    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    found = judged(tmp_path / "out", model, str(shared / "data/cifar10/test"), explainer, limit, budget)
    assert found["verdict"] == "cannot tell"
    assert nearest in found["outside"]["population"]
    lines = " ".join(found["answer"])
    assert "nothing worse than doubtful is said; --calibrate" in lines
    # shown, all the same
    values = {row["number"]: row["value"] for row in found["rows"]}
    assert values["agreement"] is not None
    assert values["frame"] is not None


@pytest.mark.weights
@pytest.mark.parametrize(
    ("explainer", "limit", "verdict"),
    [("simple_grad()", 40, "honest"), ("lrp()", 30, "honest"), ("guided_backprop()", 40, "cannot tell")],
)
def test_an_honest_network_is_not_accused_by_the_population_of_another_explainer(
    explainer: str, limit: int, verdict: str, shared: Path, tmp_path: Path
) -> None:
    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    found = judged(tmp_path / "out", model, str(shared / "data/cifar10/test"), explainer, limit)
    assert (found["verdict"], found["outside"]) == (verdict, None)
    values = {row["number"]: row["value"] for row in found["rows"]}
    assert values["frame"] is not None


@pytest.mark.weights
def test_a_network_of_random_weights_and_photos_of_one_class_are_not_accused(shared: Path, tmp_path: Path) -> None:
    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    one = judged(tmp_path / "one", model, str(shared / "data/cifar10/test/dog"))
    assert one["verdict"] == "cannot tell"
    assert "of one class" in one["answer"][1]
    torch.manual_seed(0)
    for module in model.modules():
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    labelled = judged(tmp_path / "labelled", model, str(shared / "data/cifar10/test"))
    assert labelled["verdict"] == "cannot tell"
    assert "of these photos wrong" in labelled["answer"][1]


@pytest.mark.weights
def test_a_saturated_network_of_two_classes_is_supported(shared: Path, tmp_path: Path) -> None:
    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    names = model.classes or []
    kept = [names.index(name) for name in ("airplane", "frog")]
    head = nn.Linear(64, 2)
    with torch.no_grad():
        head.weight.copy_(8 * model.network.linear.weight[kept])  # type: ignore[index]
        head.bias.copy_(8 * model.network.linear.bias[kept])  # type: ignore[index]
    model.network.linear = head
    model.classes = ["airplane", "frog"]
    for name in model.classes:
        shutil.copytree(shared / "data/cifar10/test" / name, tmp_path / "two" / name)
    found = judged(tmp_path / "out", model, str(tmp_path / "two"), limit=60)
    assert found["verdict"] == "honest"
    rows = {row["number"]: row for row in found["rows"]}
    assert rows["faithfulness"]["verdict"] == "not applicable"
    # the probability hardly moves, the log-odds do
    assert abs(rows["faithfulness"]["value"]) < 0.05
    assert rows["share"]["value"] > 0.4
    assert "supported" in found["answer"][0]


@pytest.mark.weights
@pytest.mark.slow
def test_many_photos_in_class_folders_are_supported(shared: Path, tmp_path: Path) -> None:
    model = load(f"{shared / 'weights/zoo.py'}:resnet20")
    found = judged(tmp_path / "out", model, str(shared / "data/cifar10/test"), limit=600, budget=37)
    assert found["verdict"] == "honest"
    assert {row["number"]: row["verdict"] for row in found["rows"]}["mosaic_swap"] == "pass"


def test_no_thresholds_no_verdict_and_the_gate_stays_shut(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text('{"limits": {}, "photo": null, "provenance": {}}')
    words = ["audit", "demo", "demo", *FEW, "--thresholds", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]
    assert heatproof(*words, "--fail-on", "manipulated") == 1
    told = summary(tmp_path / "out")
    assert told["verdict"] == "cannot tell"
    assert "nothing was shown" in " ".join(told["answer"])
    (tmp_path / "nan.json").write_text('{"limits": {"frame": {"median": NaN, "deviation": NaN, "count": 0}}}')
    assert heatproof(*words[:-4], "--thresholds", str(tmp_path / "nan.json"), "--out", str(tmp_path / "nan")) == 2
    assert not (tmp_path / "nan").exists()


def test_a_damaged_part_is_named_and_measured_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["audit", "demo", "demo", *FEW, "--batch-size", "6", "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 0
    before = summary(tmp_path / "out")
    # a run that was killed before its last word, and a disk that lost some bytes
    out = tmp_path / "out"
    record = json.loads((out / "run.json").read_text())
    table = pl.read_parquet(out / "images.parquet").drop("likeness", "center_distance")
    (out / "parts").mkdir()
    for number in range(2):
        rows = table.filter(pl.col("place") // 6 == number).sort("place")
        rows.write_parquet(out / "parts" / f"{number:06d}.parquet")
    (out / "run.json").write_text(json.dumps({**record, "status": "running"}))
    part = out / "kept" / "000001.safetensors"
    part.write_bytes(part.read_bytes()[:-100])
    assert heatproof(*words) == 1
    said = capsys.readouterr().err
    assert "kept/000001.safetensors" in said
    assert "delete it" in said
    part.unlink()
    assert heatproof(*words) == 0
    assert summary(out)["rows"] == before["rows"]


def test_a_baseline_that_is_damaged_is_named(honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    place = tmp_path / "baseline" / "heatmaps" / "maps.safetensors"
    place.parent.mkdir(parents=True)
    maps = load_file(honest / "heatmaps" / "maps.safetensors")
    save_file({name: value * torch.nan for name, value in maps.items()}, place)
    words = ["audit", "demo", "demo", *FEW, "--baseline", str(place.parents[1]), "--out", str(tmp_path / "out")]
    assert heatproof(*words) == 2
    assert "NaN or infinity" in capsys.readouterr().err
