"""Checkpoints and run folders from strangers."""

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from tests.fuzz.broken import VALUES, as_json, in_other_words, told, torn

import heatproof as hp
from heatproof.models.classifier import fingerprint

pytestmark = pytest.mark.fuzz

FACTORY = "from pathlib import Path\nPath({canary!r}).touch()\n\ndef build():\n    return None\n"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in hp.load("demo").network.state_dict().items()}


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)  # pyright: ignore[reportDeprecated]


def strange(state: dict, canary: Path, draw: random.Random) -> dict:
    """A state with some tensors of another kind."""
    state = dict(state)
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(list(state))
        value = state[name] if isinstance(state[name], torch.Tensor) else torch.zeros(2)
        made = [
            lambda v: v * float("nan"),
            lambda v: v.to(torch.complex64),
            lambda v: v.to(torch.int64),
            lambda v: v.reshape(-1)[:1].to_sparse(),
            lambda v: v.to("meta"),
            lambda v: v[None],
            lambda v: torch.zeros(1).expand(10**12),
            lambda v: torch.zeros(0),
            lambda v: v.to(torch.float64) * 1e300,
            lambda v: v.to(torch.float8_e4m3fn),
            lambda v: torch.nn.Parameter(v),
            lambda v: draw.choice(VALUES),
            lambda v: Evil(canary),
            lambda v: v.sum(),
        ]
        state[name] = draw.choice(made)(value.float())
    if draw.random() < 0.2:
        del state[draw.choice(list(state))]
    if draw.random() < 0.2:
        state = {draw.choice(["state_dict", "model", "x"]): state, "epoch": 3}
    return state


@pytest.mark.parametrize("kind", ["pth", "old.pth", "safetensors"])
def test_torn_checkpoints(kind: str, state: dict, tmp_path: Path) -> None:
    if kind == "safetensors":
        whole = save(state, {"classes": json.dumps(["a"])})
    else:
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=kind == "pth")
        whole = file.getvalue()
    place = tmp_path / f"w.{kind}"

    def case(draw: random.Random) -> None:
        place.write_bytes(torn(whole, draw))
        hp.load(f"demo@{place}")

    told(case, f"torn {kind}")


def test_hostile_checkpoints(state: dict, tmp_path: Path) -> None:
    canary, place = tmp_path / "canary", tmp_path / "w.pth"

    def case(draw: random.Random) -> None:
        torch.save(strange(state, canary, draw), place, _use_new_zipfile_serialization=draw.random() < 0.7)
        model = hp.load(f"demo@{place}")
        assert all(value.isfinite().all() for value in model.network.parameters())

    told(case, "hostile pth", canary)


def test_safetensors_with_another_header(state: dict, tmp_path: Path) -> None:
    whole = save(state)
    size = int.from_bytes(whole[:8], "little")
    header, rest = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    place = tmp_path / "w.safetensors"

    def case(draw: random.Random) -> None:
        told_header = as_json(in_other_words(header, draw), draw)
        length = len(told_header) if draw.random() < 0.9 else draw.choice([0, 2**31, 2**63, 2**64 - 1, 7])
        place.write_bytes(length.to_bytes(8, "little") + told_header + rest)
        hp.load(f"demo@{place}")

    told(case, "safetensors headers")


def test_run_folders_as_models(state: dict, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(FACTORY.format(canary=str(canary)))
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    planted = {"layer": "stage5", "channels": 8, "rows": 4, "cols": 4, "head": ["head"]}
    bases = ["demo", f"{tmp_path}/evil.py:build", f"{tmp_path}/evil.py", str(folder), f"{folder}/../run", "resnet18"]
    bases += [f"{tmp_path}/evil.py:build@w.pth", "timm:resnet18(checkpoint_path='x')", f"demo@{tmp_path}/evil.py:build"]
    clean = fingerprint(hp.load("demo"))

    def case(draw: random.Random) -> None:
        entry: dict[str, Any] = {"name": draw.choice(bases), "sha256": "0" * 64, "layer": "stage5"}
        if draw.random() < 0.4:
            entry["planted"] = planted
        record = {"format": 1, "command": "fool", "settings": {"model": "demo"}, "seed": 0, "status": "complete"}
        record["model"] = [entry]
        if draw.random() < 0.8:
            record = in_other_words(record, draw)
        (folder / "run.json").write_bytes(as_json(record, draw))
        assert fingerprint(hp.load(str(folder))) == clean

    told(case, "run folders as models", canary)
