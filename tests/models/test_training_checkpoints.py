"""What training scripts leave behind: each form loads, or is refused with its reason."""

import argparse
import collections
import copy
import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import heatproof as hp
from heatproof.errors import Remark
from heatproof.models.checkpoint import load_state
from heatproof.models.classifier import fingerprint
from heatproof.models.nests import best_fit, nests_in
from heatproof.models.pickles import read_inert
from heatproof.vision import torchvision

State = dict[str, torch.Tensor]
CLASSES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(weights=None, num_classes=5)


class Settings:
    """A class of a training script, which is not there where its checkpoint is read."""

    def __init__(self, **told: Any):
        self.__dict__.update(told)


class Registry(dict):
    """A dictionary of a class of its own, as EasyDict and OmegaConf have."""


class Average(nn.Module):
    """As timm's ModelEma."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.decay = 0.99


# classes whose module is gone when the file is read
_gone = types.ModuleType("train_of_somebody")
for _kind in (Settings, Registry, Average):
    _kind.__module__ = "train_of_somebody"
    setattr(_gone, _kind.__name__, _kind)


def save(content: Any, file: Path, old: bool = False) -> None:
    """As ``torch.save`` in a training script whose classes nobody else has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, _gone.__name__, _gone)
        torch.save(content, file, _use_new_zipfile_serialization=not old)


def put(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def noisy(state: State) -> State:
    return {name: value + 0.5 for name, value in state.items()}


def in_one(state: State) -> State:
    """Views of one long vector."""
    parts = torch.cat([v.flatten() for v in state.values()]).split([v.numel() for v in state.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(state.items(), parts, strict=True)}


def optimizer(state: State) -> dict[str, Any]:
    return {"state": {i: {"exp_avg": v} for i, v in enumerate(state.values())}, "param_groups": [{"lr": np.float64(1)}]}


def nested(key: str) -> Callable[[State], dict[str, Any]]:
    return lambda state: {"epoch": 3, key: state, "optimizer": optimizer(state)}


# fmt: off
NESTS = (
    "state_dict", "model_state_dict", "model", "network", "net", "state_dict_ema", "ema", "model_ema",
    "params", "params_ema", "weights", "model_state", "student", "net_state_dict", "teacher", "ema_state_dict",
)
PREFIXES = (
    "module.", "_orig_mod.", "network.", "model.", "net.", "backbone.", "encoder.", "_model.", "student.",
    "module.model.", "model.module._orig_mod.", "_fsdp_wrapped_module.", "trunk.body.", "model.encoder.net.",
)
# fmt: on

LOADS: dict[str, Callable[[State], Any]] = {
    "a state_dict": lambda s: s,
    "an ordered one": lambda s: collections.OrderedDict(s),
    "a defaultdict": lambda s: collections.defaultdict(int, s),
    "parameters": lambda s: {n: nn.Parameter(v) for n, v in s.items()},
    "parameters beside settings": lambda s: {"w": {n: nn.Parameter(v) for n, v in s.items()}, "x": Settings()},
    "half": lambda s: {n: v.half().float() for n, v in s.items()},
    "views of one storage": lambda s: in_one(s),
    "views of one storage beside settings": lambda s: {"model": in_one(s), "settings": Settings()},
    "channels last": lambda s: {n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in s.items()},
    "channels last beside settings": lambda s: {
        "model": {n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in s.items()},
        "settings": Settings(),
    },
    **{f"under {key}": nested(key) for key in NESTS},
    **{f"with {prefix}": put(prefix) for prefix in PREFIXES},
    "nest and prefix": lambda s: {"model_ema": put("module.")(s), "epoch": 2},
    "two nests": lambda s: {"checkpoint": {"state_dict": s}, "epoch": 2},
    "wrapped in the middle": lambda s: {n.replace("features.", "features.module."): v for n, v in s.items()},
    "compiled in the middle": lambda s: {n.replace("features.", "features._orig_mod."): v for n, v in s.items()},
    "numpy scalars": lambda s: {"state_dict": s, "best": np.float64(0.9), "epoch": np.int64(3)},
    "numpy arrays beside": lambda s: {"state_dict": s, "confusion": np.eye(5)},
    "a Namespace": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, out=Path("runs"))},
    "a Path": lambda s: {"model": s, "best": Path("runs/best.pth")},
    "Lightning": lambda s: {
        "epoch": 1,
        "pytorch-lightning_version": "2.1",
        "state_dict": put("model.")(s),
        "hyper_parameters": Registry(lr=0.1, net=Settings(width=4)),
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.9), "dirpath": "x"}},
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [optimizer(s)],
    },
    "an unknown class": lambda s: {"model": s, "trainer": Settings(best=s)},
    "inside an unknown class": lambda s: Settings(epoch=3, weights=s),
    "a dictionary of its own class": lambda s: Registry(state_dict=s, epoch=3),
    "SWA": lambda s: {"n_averaged": torch.tensor(7), **put("module.")(s)},
    "SWA in a nest": lambda s: {"swa_model": {"n_averaged": torch.tensor(7), **put("module.")(s)}},
    "thop's counts": lambda s: {**s, "total_ops": torch.tensor(1.0), "features.0.total_params": torch.tensor(1.0)},
    "a copy": lambda s: {"model": s, "best": {n: v.clone() for n, v in s.items()}},
    "in parts": lambda s: {
        part: {n.partition(".")[2]: v for n, v in s.items() if n.startswith(part)}
        for part in ("features", "classifier")
    },
    "random states": lambda s: {"model": s, "rng": [torch.get_rng_state(), np.random.default_rng(0), (3, (4, 5))]},
    "a set and a complex number": lambda s: {"model": s, "done": {1, 2}, "frozen": frozenset("ab"), "z": 3 + 4j},
    "a type and a device": lambda s: {
        "model": s,
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "k": Settings,
    },
    "a function": lambda s: {"model": s, "loss": nn.functional.cross_entropy, "schedule": re.compile("x")},
}


@pytest.mark.parametrize(
    ("form", "old"),
    [(form, False) for form in LOADS] + [(form, True) for form in LOADS if form[:5] not in ("under", "with ")],
)
def test_this_form_loads(form: str, old: bool, network: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    save(LOADS[form](network.state_dict()), file, old)
    loaded = hp.load(f"squeezenet1_1@{file}")
    halved = {n: v.half().float() for n, v in network.state_dict().items()}
    wanted = copy.deepcopy(network)
    wanted.load_state_dict(halved if form == "half" else network.state_dict())
    assert fingerprint(loaded) == fingerprint(wanted)


@pytest.mark.parametrize("wrapped", [lambda n: n, Average, lambda n: {"ema": Average(n), "model": None, "epoch": 1}])
def test_modules_that_were_pickled_whole(wrapped, network: nn.Module, tmp_path: Path) -> None:
    network = copy.deepcopy(network)
    network.register_buffer("scratch", torch.zeros(3), persistent=False)
    save(wrapped(network), tmp_path / "w.pth")
    assert fingerprint(hp.load(f"squeezenet1_1@{tmp_path}/w.pth")) == fingerprint(network)


def without(name: str) -> Callable[[State], Any]:
    return lambda s: {n: v for n, v in s.items() if n != name}


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "a weight is missing": (without("features.0.bias"), r"names 1 missing \(features.0.bias\)"),
    "one too many": (lambda s: {**s, "head.weight": s["features.0.bias"]}, r"1 unexpected \(head.weight\)"),
    "one too many under the prefix": (lambda s: put("net.")({**s, "x": torch.zeros(1)}), r"1 unexpected \(x\)"),
    "another size": (
        lambda s: {**s, "features.0.bias": torch.zeros(3)},
        r"0.bias: \[64\] expected, \[3\] found",
    ),
    "another network": (lambda s: {"layer1.weight": torch.zeros(2)}, r"52 missing .* 1 unexpected"),
    "the optimizer alone": (lambda s: {"optimizer": optimizer(s)}, "52 missing"),
    "numbers alone": (lambda s: {"epoch": 3, "best": 0.9}, "holds no tensors by name"),
    "settings alone": (lambda s: {"args": argparse.Namespace(lr=1)}, r"holds no tensors by name.*argparse.Namespace"),
    "a list": (lambda s: list(s.values()), "holds no tensors by name"),
    "one tensor": (lambda s: s["features.0.bias"], "holds no tensors by name"),
    "arrays": (lambda s: {n: v.numpy() for n, v in s.items()}, "holds no tensors by name.*numpy"),
    "an array among tensors": (
        lambda s: {**s, "features.0.bias": s["features.0.bias"].numpy()},
        "features.0.bias is an object of numpy.*weights are tensors",
    ),
    "NaN": (lambda s: {"model": {**s, "features.0.bias": s["features.0.bias"] * torch.nan}}, "holds NaN"),
    "NaN beside settings": (
        lambda s: {"model": {**s, "features.0.bias": s["features.0.bias"] / 0}, "args": Settings()},
        "holds NaN or infinite",
    ),
    "integers": (lambda s: {"m": {n: v.long() for n, v in s.items()}, "args": Settings()}, "is of int64"),
    "complex numbers": (
        lambda s: {"m": {n: v.to(torch.complex64) for n, v in s.items()}, "x": Settings()},
        "is complex",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_this_form_is_refused(form: str, old: bool, network: nn.Module, tmp_path: Path) -> None:
    made, reason = REFUSED[form]
    save(made(network.state_dict()), tmp_path / "w.pth", old)
    with pytest.raises(hp.ModelError, match=reason):
        hp.load(f"squeezenet1_1@{tmp_path}/w.pth")


def test_a_scripted_file_and_a_plain_pickle_are_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(tmp_path / "w.pt")
    with pytest.raises(hp.ModelError, match="is a TorchScript archive; save the state_dict of the model instead"):
        hp.load(f"squeezenet1_1@{tmp_path}/w.pt")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(network.state_dict()))
    with pytest.raises(hp.ModelError, match=r"cannot be read as a checkpoint|no checkpoint of tensors"):
        hp.load(f"squeezenet1_1@{tmp_path}/w.pkl")


def test_what_lies_beside_the_network_is_named(network: nn.Module, tmp_path: Path) -> None:
    state = {**put("encoder.")(network.state_dict()), "projector.0.weight": torch.zeros(2, 2), "queue": torch.zeros(3)}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.warns(Remark, match=r"52 tensors under 'encoder\.' .* 2 beside .* out \(projector.0.weight, queue"):
        loaded = hp.load(f"squeezenet1_1@{tmp_path}/w.pth")
    assert fingerprint(loaded) == fingerprint(network)


def test_of_two_that_fit_the_choice_is_said_and_can_be_made(network: nn.Module, tmp_path: Path) -> None:
    plain = network.state_dict()
    file = tmp_path / "w.pth"
    torch.save({"model_ema": put("module.")(noisy(plain)), "model": plain, "optimizer": optimizer(plain)}, file)
    with pytest.warns(Remark, match=r"are those of model; model_ema.module would fit as well .*w.pth#model_ema"):
        loaded = hp.load(f"squeezenet1_1@{file}")
    assert fingerprint(loaded) == fingerprint(network)
    for choice in ("model_ema", "model_ema.module"):
        average = hp.load(f"squeezenet1_1@{file}#{choice}")
        assert all(torch.equal(v, noisy(plain)[n]) for n, v in average.network.state_dict().items())
    assert average.name == "squeezenet1_1@w#model_ema.module"
    assert fingerprint(hp.load(f"squeezenet1_1@{file}#model")) == fingerprint(network)
    with pytest.raises(hp.ModelError, match=r"holds no weights called 'modle'; did you mean model\?"):
        hp.load(f"squeezenet1_1@{file}#modle")


def test_of_two_encoders_in_one_dictionary_one_is_chosen(network: nn.Module, tmp_path: Path) -> None:
    plain = network.state_dict()
    torch.save({**put("teacher.")(noisy(plain)), **put("student.")(plain)}, tmp_path / "w.pth")
    with pytest.warns(Remark) as said:
        assert fingerprint(hp.load(f"squeezenet1_1@{tmp_path}/w.pth")) == fingerprint(network)
    assert "are those of student; teacher would fit as well" in str(said[0].message)
    with pytest.warns(Remark, match="left out"):
        average = hp.load(f"squeezenet1_1@{tmp_path}/w.pth#teacher")
    assert torch.equal(average.network.state_dict()["features.0.bias"], plain["features.0.bias"] + 0.5)


def test_a_file_that_is_called_so_needs_no_choice(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "w#3.pth")
    assert hp.load(f"squeezenet1_1@{tmp_path}/w#3.pth").name == "squeezenet1_1@w#3"


WRAPPER = """
from torch import nn
from heatproof.vision import torchvision

class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torchvision.models.squeezenet1_1(weights=None, num_classes=5)

    def forward(self, x):
        return self.net(x)

build = Wrapper
"""


def test_weights_of_the_network_inside_a_wrapper(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRAPPER)
    for prefix in ("", "module.", "net."):
        save({"model": put(prefix)(network.state_dict()), "args": Settings(classes=CLASSES)}, tmp_path / "w.pth")
        loaded = hp.load(f"{tmp_path}/mine.py:build@{tmp_path}/w.pth")
        assert fingerprint(loaded.network.get_submodule("net")) == fingerprint(network)
        assert loaded.classes == CLASSES


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": CLASSES},
        {"class_names": tuple(CLASSES)},
        {"class_to_idx": {name: i for i, name in reversed(list(enumerate(CLASSES)))}},
        {"idx_to_class": dict(enumerate(CLASSES))},
        {"id2label": {str(i): name for i, name in enumerate(CLASSES)}},
        {"hyper_parameters": {"class_names": CLASSES}},
        {"meta": {"CLASSES": CLASSES}},
        {"args": argparse.Namespace(classes=CLASSES)},
        {"cfg": Registry(classes=CLASSES)},
    ],
)
def test_class_names_inside_the_file_are_used(beside: dict, network: nn.Module, tmp_path: Path) -> None:
    save({"state_dict": network.state_dict(), **beside}, tmp_path / "w.pth")
    assert hp.load(f"squeezenet1_1@{tmp_path}/w.pth").classes == CLASSES


def test_names_of_another_number_are_not_the_classes(network: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": network.state_dict(), "classes": CLASSES[:3]}, tmp_path / "w.pth")
    assert hp.load(f"squeezenet1_1@{tmp_path}/w.pth").classes is None


def test_safetensors_with_a_prefix(network: nn.Module, tmp_path: Path) -> None:
    save_file(put("backbone.")(network.state_dict()), tmp_path / "w.safetensors")
    assert fingerprint(hp.load(f"squeezenet1_1@{tmp_path}/w.safetensors")) == fingerprint(network)


def test_numbers_in_an_old_file_are_views_as_in_a_new_one(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    kept = {
        "a": whole[1:3, ::2],
        "b": whole.t(),
        "c": torch.zeros(0, 3),
        "d": torch.tensor(5),
        "e": torch.tensor([True]),
    }
    for old in (False, True):
        save(kept, tmp_path / "w.pth", old)
        read, left = read_inert(tmp_path / "w.pth")
        assert not left
        for name, value in kept.items():
            assert read[name].dtype is value.dtype
            torch.testing.assert_close(read[name], value, rtol=0, atol=0)


def test_a_sparse_copy_is_another_choice(network: nn.Module, tmp_path: Path) -> None:
    plain = network.state_dict()
    sparse = {name: value.to_sparse() for name, value in plain.items()}
    torch.save({"model": plain, "pruned": sparse}, tmp_path / "w.pth")
    with pytest.warns(Remark, match="are those of model; pruned would fit as well"):
        assert fingerprint(hp.load(f"squeezenet1_1@{tmp_path / 'w.pth'}")) == fingerprint(network)


def test_counts_of_batches_may_be_missing() -> None:
    norm = nn.BatchNorm2d(2)
    state = {name: value + 1 for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    load_state(norm, state, "the file")
    assert (norm.weight.tolist(), int(norm.num_batches_tracked or 0)) == ([2.0, 2.0], 0)


def test_a_module_pickled_with_an_empty_place(tmp_path: Path) -> None:
    """And a network all of whose names begin alike, down to the last part."""
    inner = nn.Linear(3, 2)
    inner.register_module("nothing", None)
    torch.save({"model": inner}, tmp_path / "w.pth")
    (nest,) = [nest for nest in nests_in(read_inert(tmp_path / "w.pth")[0]) if nest.state]
    own = {f"net.{name}": value for name, value in inner.state_dict().items()}
    fit, _ = best_fit([nest], own)
    assert all(torch.equal(fit.state[name], value) for name, value in own.items())
