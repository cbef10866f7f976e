"""``--precision auto``: bf16 where the device computes in it and the maps keep their order; else, and why, fp32."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.command_line import heatproof
from torch import nn

from heatproof.commands import precision
from heatproof.commands.precision import correlations, settle
from heatproof.data.sources import open_data
from heatproof.errors import InputError, Remark
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.similarity import spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware, computes_in_bf16
from heatproof.models.loading import load
from heatproof.results.reading import read_run
from heatproof.types import Explanation


@dataclass(frozen=True)
class Falling:
    """Maps that fall from cell to cell in full precision, and rise in half."""

    steps: int = 16

    def __call__(self, model, images, targets=None, *, create_graph=False) -> Explanation:
        logits = model(images)
        line = torch.arange(float(self.steps)).expand(len(images), 1, -1)
        half = torch.is_autocast_enabled("cpu")
        return Explanation(line if half else -line, logits, logits.argmax(1))


class Stubborn(nn.Module):
    """A network that refuses half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layer(x)
        if found.dtype == torch.bfloat16:
            raise RuntimeError("no kernel for BFloat16")
        return found.mean((2, 3))


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_in_bf16", lambda place: True)


def settled(model: Classifier, explainers: list, source=None) -> tuple[Hardware, str]:
    source = source or open_data("demo", limit=6, classes=model.classes, labels=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hardware = settle("cpu", "auto", [model], lambda one: source, explainers)
    (said,) = [str(one.message) for one in caught if issubclass(one.category, Remark)]
    return hardware, said


def test_bf16_where_the_maps_bear_it(native: None) -> None:
    model = load("demo")
    hardware, said = settled(model, [GradCAM(relu=False)])
    assert hardware == Hardware("cpu", "bf16")
    assert "precision auto takes bf16 (rank correlation of the first 8 photos' maps with fp32: 0.99" in said
    # the model that is looked at stays in the layout of full precision
    assert all(weight.is_contiguous() for weight in model.parameters())


def test_fp32_where_they_do_not(native: None) -> None:
    hardware, said = settled(load("demo"), [GradCAM(), Falling()])
    assert hardware == Hardware("cpu")
    assert "takes fp32 (rank correlation of the first 8 photos' maps with fp32: -1.0000, and 0.99 is wanted)" in said


def test_fp32_where_it_cannot_be_told(native: None) -> None:
    hardware, said = settled(load("demo"), [Falling(steps=1)])
    assert (hardware, "no map of the first photos has an order" in said) == (Hardware("cpu"), True)
    stubborn = Classifier(Stubborn(), input_size=48, default_layer="layer").eval()
    hardware, said = settled(stubborn, [GradCAM()])
    assert hardware == Hardware("cpu")
    assert "takes fp32: in bf16 the maps of" in said
    assert "no kernel for BFloat16" in said


def test_fp32_where_the_device_does_not_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False}, raising=False)
    assert not computes_in_bf16(torch.device("cpu"))
    hardware, said = settled(load("demo"), [GradCAM()])
    assert (hardware, said) == (Hardware("cpu"), "precision auto takes fp32: cpu does not compute in bf16 here")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert computes_in_bf16(torch.device("cpu"))


def test_the_correlation_is_spearmans_of_the_two_maps() -> None:
    model, images = load("demo"), torch.rand(3, 3, 48, 48)
    full, half = Hardware("cpu"), Hardware("cpu", "bf16")
    images = torch.rand(3, model.channels, *model.input_shape, generator=torch.Generator().manual_seed(0))
    (found,) = correlations(model, images, [GradCAM(relu=False)], full, half)
    exact = GradCAM(relu=False)(model, images)
    with half.autocast():
        rounded = GradCAM(relu=False)(half.host(load("demo")), half.bring(images), exact.targets)
    assert found == pytest.approx(float(spearman(exact.heatmaps, rounded.heatmaps.float()).mean()), abs=1e-6)
    assert found < 1  # or both were the same


def test_auto_is_settled_before_it_is_computed_in() -> None:
    with pytest.raises(InputError, match="precision auto is settled by the maps"):
        Hardware("cpu", "auto")


@pytest.mark.filterwarnings("default")
def test_the_run_records_what_was_taken(native: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["explain", "demo", "--model", "demo", "--limit", "3", "--figures", "0", "--out", str(tmp_path / "out")]
    assert heatproof(*words, "--precision", "auto") == 0
    assert "precision auto takes bf16" in " ".join(capsys.readouterr().err.split())
    assert read_run(tmp_path / "out").record["settings"]["precision"] == "bf16"
    # the same run, whoever names the precision
    assert heatproof(*words, "--precision", "bf16") == 0
    assert "complete already" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fool", "demo"])
def test_other_verbs_refuse_it(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = {"fool": ["fool", "demo", "--model", "demo", "--penalty", "location()"], "demo": ["demo"]}[verb]
    assert heatproof(*words, "--precision", "auto", "--out", str(tmp_path / "out")) != 0
    assert "here give fp32 or bf16" in " ".join(capsys.readouterr().err.split())


def test_a_model_whose_photos_cannot_be_read_has_no_say(native: None, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"torn")
    source = open_data(str(tmp_path), labels=False)
    hardware, said = settled(load("demo"), [GradCAM()], source)
    assert (hardware, "no map of the first photos has an order" in said) == (Hardware("cpu"), True)


def test_which_devices_compute_in_bf16_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for known in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda known=known, **how: asked.append(how) or known)
        assert computes_in_bf16(torch.device("cuda")) is known
    # a card that imitates it is slower than in full precision
    assert asked == [{"including_emulation": False}] * 2
    assert not computes_in_bf16(torch.device("mps"))
