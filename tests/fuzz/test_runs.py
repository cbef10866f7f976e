"""Run folders: gone on with, shown, reported, and read by the commands that build on them."""

import io
import json
import random
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load, save
from tests.command_line import heatproof
from tests.fuzz.broken import CASES, as_json, in_other_words, told, torn

from heatproof.cli import options
from heatproof.cli.finish import show
from heatproof.commands.audit.kept import check_table
from heatproof.commands.audit.numbers import checks_of
from heatproof.commands.audit.run import Audit, read_audit
from heatproof.commands.audit.summary import read_baseline
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.audit.verdict import Thresholds, conclude
from heatproof.data.sources import open_data
from heatproof.errors import HeatproofError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import Location
from heatproof.models.loading import load as load_model
from heatproof.report.page import write_report
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.training.settings import FineTune

pytestmark = pytest.mark.fuzz
DEMO = load_model("demo")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fuzz") / "audit"
    words = ["audit", "demo", "demo", "--budget", "37", "--limit", "40", "--reference", "demo", "--batch-size", "14"]
    assert heatproof(*words, "--out", str(out)) == 0
    return out


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(folder, to)


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_reports_of_changed_runs(name: str, audited: Path, tmp_path: Path) -> None:
    folder = copied(audited, tmp_path / "run")
    # the page of many figures is made in the report's own fuzz
    shutil.rmtree(folder / "figures")
    shutil.rmtree(folder / "viewer")
    whole = json.loads((folder / name).read_text())

    def case(draw: random.Random) -> None:
        (folder / name).write_bytes(as_json(in_other_words(whole, draw), draw))
        write_report([folder])

    told(case, f"reports, {name}")


def test_reports_of_changed_views(audited: Path, tmp_path: Path) -> None:
    folder = copied(audited, tmp_path / "run")
    shutil.rmtree(folder / "figures")
    view, *rest = sorted((folder / "viewer").glob("*.json"))
    for path in rest:
        path.unlink()
    whole = json.loads(view.read_text())

    def case(draw: random.Random) -> None:
        view.write_bytes(as_json(in_other_words(whole, draw), draw))
        write_report([folder])

    told(case, "reports, viewer")


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_the_same_command_on_a_changed_run(name: str, audited: Path, tmp_path: Path) -> None:
    record = json.loads((audited / "run.json").read_text())
    whole = json.loads((audited / name).read_text())
    folder = tmp_path / "run"

    def case(draw: random.Random) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for other in ("run.json", "summary.json"):
            shutil.copy(audited / other, folder)
        (folder / name).write_bytes(as_json(in_other_words(whole, draw), draw))
        asked = {"command": "audit", "settings": record["settings"], "seed": 0}
        with Run.start(folder, **asked, overwrite=draw.random() < 0.2) as run:
            if run.done:
                show(run, options.Work(json=draw.random() < 0.5), {"check": "check", "value": "value"})

    told(case, f"the same command, {name}")


def test_thresholds(tmp_path: Path) -> None:
    whole, file = Thresholds.shipped().plain(), tmp_path / "thresholds.json"

    def case(draw: random.Random) -> None:
        file.write_bytes(as_json(in_other_words(whole, draw), draw))
        known = Thresholds.read(file)
        for limits in known.limits.values():
            assert limits.count >= 1
            assert limits.unit(0.02) > 0
            assert limits.median == limits.median

    told(case, "thresholds")


def changed_tensors(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with tensors of another type, shape or content, or torn."""
    if draw.random() < 0.4:
        return torn(data, draw)
    tensors = load(data)
    for _ in range(draw.randint(1, 2)):
        name = draw.choice(list(tensors))
        value = tensors[name]
        makers = [
            lambda v: v[:0],
            lambda v: v[:1],
            lambda v: v[None],
            lambda v: v.flatten(),
            lambda v: v.sum(),
            lambda v: v.to(torch.float64),
            lambda v: v.to(torch.int32),
            lambda v: v.to(torch.complex64),
            lambda v: v.float() * float("nan"),
            lambda v: torch.full_like(v.float(), float("inf")),
            lambda v: torch.full_like(v, -7 if v.is_signed() else 7),
            lambda v: torch.cat([v, v]) if v.ndim else v,
            lambda v: v.transpose(0, -1).contiguous() if v.ndim else v,
        ]
        tensors[name] = draw.choice(makers)(value)
        if draw.random() < 0.2:
            tensors[draw.choice(["", "x", "tiles2"])] = tensors.pop(name)
        if not tensors:
            break
    return save({name: value.contiguous() for name, value in tensors.items()})


def test_kept_parts(audited: Path, tmp_path: Path) -> None:
    folder = copied(audited, tmp_path / "run")
    paths = sorted((folder / "kept").glob("*.safetensors"))
    whole = {path: path.read_bytes() for path in paths}
    mosaics = (folder / "mosaics.safetensors").read_bytes()

    def case(draw: random.Random) -> None:
        for path in paths:
            path.write_bytes(whole[path])
        (folder / "mosaics.safetensors").write_bytes(mosaics)
        path = draw.choice(paths)
        if draw.random() < 0.3:
            (folder / "mosaics.safetensors").write_bytes(changed_tensors(mosaics, draw))
        elif draw.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(changed_tensors(whole[path], draw))
        table, tensors = read_audit(folder)
        conclude(checks_of(Audit(budget=37), table, tensors, Thresholds.shipped(), model=DEMO, reference="reference"))

    told(case, "kept parts")


def test_tables_of_parts(audited: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(audited / "images.parquet")
    file = io.BytesIO()
    table.write_parquet(file)
    folder = copied(audited, tmp_path / "run")

    def case(draw: random.Random) -> None:
        changed = table
        for _ in range(draw.randint(1, 3)):
            name = draw.choice(changed.columns)
            turn = draw.random()
            if turn < 0.3:
                changed = changed.drop(name)
            elif turn < 0.6:
                value = draw.choice([None, "x", float("nan"), True, 2**40, -1])
                changed = changed.with_columns(pl.lit(value).alias(name))
            elif turn < 0.8:
                changed = changed.head(draw.choice([0, 1, 3]))
            else:
                changed = pl.concat([changed, changed])
        out = io.BytesIO()
        changed.write_parquet(out)
        parts = folder / "parts"
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        (parts / "000000.parquet").write_bytes(torn(file.getvalue(), draw) if draw.random() < 0.3 else out.getvalue())
        if draw.random() < 0.5:
            (parts / "000001.parquet").write_bytes(file.getvalue())
        run = Run(folder, {})
        merged = run.merge(("image",))
        check_table(parts, merged, "delete it")
        tensors = AuditTensors.load(folder, merged.height)
        checks_of(Audit(budget=37), merged, tensors, Thresholds.shipped(), model=DEMO, reference="reference")

    told(case, "tables of parts")


def test_baselines(audited: Path, tmp_path: Path) -> None:
    place = tmp_path / "heatmaps" / "maps.safetensors"
    place.parent.mkdir()
    whole = (audited / "heatmaps" / "maps.safetensors").read_bytes()

    def case(draw: random.Random) -> None:
        place.write_bytes(changed_tensors(whole, draw))
        assert all(bool(value.isfinite().all()) for value in read_baseline(tmp_path).values())

    told(case, "baselines")


def test_lists_of_skipped_photos(tmp_path: Path) -> None:
    whole = [{"image": "a.png", "reason": "truncated"}, {"image": "b.png", "reason": "empty"}]
    run = Run(tmp_path, {})
    run.append_rows(0, [{"image": "c.png"}], whole)

    def case(draw: random.Random) -> None:
        (tmp_path / "parts" / "000000.skipped.json").write_bytes(as_json(in_other_words(whole, draw), draw))
        assert all(isinstance(entry["image"], str) for entry in run.skipped())

    told(case, "lists of skipped photos")


def test_states_of_foolings(tmp_path: Path) -> None:
    model, data = load_model("demo"), open_data("demo", limit=24)
    settings = FineTune(steps=2, batch_size=8, evaluate_every=1, holdout=0.3)
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt")

    class Cut(Exception):
        pass

    def stop(row: dict) -> None:
        raise Cut

    with pytest.raises(Cut):
        fine_tune(model, GradCAM(), Location(), data, settings, checkpoint=checkpoint, advance=stop)
    place = tmp_path / "checkpoint.pt"
    whole = place.read_bytes()
    state = checkpoint.load()
    assert state is not None

    def case(draw: random.Random) -> None:
        if draw.random() < 0.3:
            place.write_bytes(torn(whole, draw))
        else:
            torch.save(changed_state(state, draw), place)
        fine_tune(model, GradCAM(), Location(), data, settings, checkpoint=checkpoint)

    told(case, "states of foolings", cases=max(10, CASES // 4))


def changed_state(state: dict, draw: random.Random) -> dict:
    state = torch.load(io.BytesIO(_saved(state)), weights_only=True)
    holders = [state, state, state["weights"], state["good"], state["optimizer"], state["optimizer"]["state"]]
    holders += list(state["optimizer"]["state"].values()) + state["rows"]
    for _ in range(draw.randint(1, 2)):
        holder = draw.choice(holders)
        if not holder:
            continue
        key = draw.choice(list(holder))
        if draw.random() < 0.2:
            del holder[key]
        else:
            strange = [None, 3, -1, float("nan"), "x", [], {}, [1, 2], torch.zeros(2), torch.full((3, 3), torch.nan)]
            if isinstance(holder[key], torch.Tensor):
                strange += [holder[key] * torch.nan, holder[key][None], holder[key].to(torch.complex64)]
            holder[key] = draw.choice(strange)
    return state


def _saved(state: dict) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def test_a_fooled_models_record_in_compare(tmp_path: Path) -> None:
    from heatproof.answers.given import fooled_as_told

    model, folder = load_model("demo"), tmp_path / "run"
    folder.mkdir()
    texts = [
        "fool(penalty=location(), explainer=gradcam())",
        "fool(penalty=gradcam(), explainer=3)",
        "edit(edit=weight_edit(target='corner'))",
        "gradcam()",
        "fool(" * 500,
        "-" * 3000 + "1",
        "fool(pairs=9**9**9**9)",
        "",
    ]

    def case(draw: random.Random) -> None:
        record = {"format": 1, "command": "fool", "settings": {"asked": draw.choice(texts)}, "status": "complete"}
        (folder / "run.json").write_bytes(
            as_json(in_other_words(record, draw) if draw.random() < 0.5 else record, draw)
        )
        fooled_as_told(str(folder), model)

    told(case, "records of foolings")
    assert issubclass(HeatproofError, Exception)
