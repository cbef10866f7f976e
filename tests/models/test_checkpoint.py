"""Checkpoints from anybody: torn, hostile, or full of numbers that are none."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import heatproof as hp
from heatproof.models import nests
from heatproof.models.checkpoint import check_weights, class_count, classes_in
from heatproof.models.classifier import fingerprint
from heatproof.models.hardware import Hardware
from heatproof.vision import torchvision
from networks import small

NAME = "features.3.squeeze.weight"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return torchvision.models.squeezenet1_1(weights=None).state_dict()


def load(file: Path) -> hp.Classifier:
    return hp.load(f"squeezenet1_1@{file}")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # torch calls quantised tensors deprecated
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w * torch.nan, "holds NaN or infinite numbers"),
        (lambda w: torch.where(torch.arange(w.numel()).view_as(w) == 7, torch.inf, w), "holds NaN or infinite numbers"),
        (lambda w: w.to(torch.complex64), "is complex"),
        (lambda w: w.flatten(1).to_sparse(), "is sparse"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "is quantised"),
        (lambda w: w.to("meta"), "is on the meta device"),
        (lambda w: w.to(torch.int64), "is of int64"),
        (lambda w: w.double() * 1e300, "holds NaN or infinite numbers"),
        (lambda w: torch.zeros(1).expand(10**9), "holds fewer"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(change, said: str, state, tmp_path: Path) -> None:
    torch.save({**state, NAME: change(state[NAME])}, tmp_path / "w.pth")
    with pytest.raises(hp.ModelError, match=f"{NAME}.*{said}"):
        load(tmp_path / "w.pth")


def test_half_and_double_precision_are_weights(state, tmp_path: Path) -> None:
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "w.safetensors")
    assert load(tmp_path / "w.safetensors").network.get_parameter("classifier.1.weight").dtype is torch.float32


def test_masks_may_be_infinite() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    check_weights(network)
    network.register_buffer("mask", torch.tensor([0.0, torch.nan]))
    with pytest.raises(hp.ModelError, match="mask holds NaN"):
        check_weights(network)


def test_a_model_given_in_python_is_held_to_the_same() -> None:
    model = small()
    with torch.no_grad():
        next(model.parameters()).view(-1)[3] = torch.nan
    with pytest.raises(hp.ModelError, match="holds NaN or infinite numbers"):
        Hardware("cpu").host(model)
    with pytest.raises(hp.ModelError, match="std positive"):
        hp.Classifier(nn.Identity(), std=(float("nan"),))


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", 2**33) + b"{")
        out.truncate(2**34)
    with pytest.raises(hp.ModelError, match="no whole safetensors file"):
        load(file)


def test_a_zip_that_unfolds_is_not_unfolded(state, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as archive, zipfile.ZipFile(tmp_path / "b.pth", "w") as bomb:
        for entry in archive.infolist():
            bomb.writestr(entry.filename, archive.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(hp.ModelError, match="is compressed"):
        load(tmp_path / "b.pth")


def test_a_pickle_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    class Much:
        def __reduce__(self):
            return bytearray, (2**40,)

    torch.save({"a": Much()}, tmp_path / "w.pth")
    with pytest.raises(hp.ModelError, match="bytearray"):
        load(tmp_path / "w.pth")
    file = io.BytesIO()
    torch.save({"a": Much()}, file, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pth").write_bytes(file.getvalue())
    with pytest.raises(hp.ModelError):
        load(tmp_path / "old.pth")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02", pickle.dumps([1]), pickle.dumps({"a": [[]]}), b"\xff" * 99]
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_files_that_are_no_checkpoints(content: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"w.{ending}").write_bytes(content)
    with pytest.raises(hp.ModelError, match=r"w\."):
        load(tmp_path / f"w.{ending}")


def test_paths_are_literal(state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "~" / "a[1]*\n@b"
    folder.mkdir(parents=True)
    torch.save(state, folder / "w.pth")
    assert load(Path("~/a[1]*\n@b/w.pth")).name == "squeezenet1_1@w"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nn.Parameter(torch.eye(3).to_sparse()), "the weight odd is sparse"),
        (nn.Parameter(torch.ones(2, dtype=torch.complex64)), "the weight odd is complex"),
        (nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False), "the weight odd is of torch.int64"),
        (torch.eye(3).to_sparse(), "the buffer odd is sparse"),
        (torch.ones(2, device="meta"), "the buffer odd is on the meta device"),
    ],
)
def test_a_network_of_odd_numbers_is_refused_by_name(value: torch.Tensor, said: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.register_parameter("odd", value) if isinstance(value, nn.Parameter) else network.register_buffer(
        "odd", value
    )
    with pytest.raises(hp.ModelError, match=f"Sequential: {said}"):
        check_weights(network)
    if "int64" not in said:
        with pytest.raises(hp.ModelError, match="the tensor odd is"):
            fingerprint(network)


def test_a_file_nested_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nests, "MOST_PLACES", 20)
    torch.save([{str(n): {"a": n} for n in range(30)}][0], tmp_path / "dictionaries.pth")
    torch.save(nn.Sequential(*[nn.Linear(1, 1) for _ in range(30)]), tmp_path / "modules.pth")
    for what in ("dictionaries", "modules"):
        with pytest.raises(hp.ModelError, match=rf"{what}\.pth: it holds more than 20 {what}"):
            load(tmp_path / f"{what}.pth")


def test_remarks_that_are_no_classes_are_no_names() -> None:
    assert classes_in({"classes": '["a", 1]'}) == ["a", "1"]
    assert [classes_in({"classes": text}) for text in ("[1,", "3", "[" * 100_000)] == [None] * 3


def test_classes_are_counted_where_only_the_last_rows_differ() -> None:
    own = {"body": torch.zeros(3, 2), "head": torch.zeros(10, 3), "bias": torch.zeros(10)}
    assert class_count(own, {**own, "head": torch.zeros(7, 3), "bias": torch.zeros(7)}) == 7
    assert class_count(own, own) is None
    for other in (
        {"head": torch.zeros(7)},
        {"head": torch.zeros(7, 4)},
        {"head": torch.zeros(7, 3), "bias": torch.zeros(8)},
    ):
        assert class_count(own, {**own, **other}) is None
