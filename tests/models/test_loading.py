import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import heatproof as hp
from heatproof.models.classifier import fingerprint
from heatproof.vision import torchvision


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None, num_classes=7)


def test_checkpoint_decides_the_number_of_classes(tmp_path: Path, resnet: nn.Module) -> None:
    torch.save(resnet.state_dict(), tmp_path / "mine.pth")
    model = hp.load(f"resnet18@{tmp_path}/mine.pth")
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    assert model.name == "resnet18@mine"
    assert model.class_name(3) == "class 3"
    assert not model.training


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_wrappers_names_are_taken_off(tmp_path: Path, resnet: nn.Module, prefix: str, nest: str | None) -> None:
    state = {prefix + name: value for name, value in resnet.state_dict().items()}
    torch.save({nest: state, "epoch": 3} if nest else state, tmp_path / "w.pth")
    assert fingerprint(hp.load(f"resnet18@{tmp_path}/w.pth")) == fingerprint(resnet)


def test_safetensors_with_class_names(tmp_path: Path, resnet: nn.Module) -> None:
    state = {name: value.contiguous() for name, value in resnet.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", {"classes": '["a", "b", "c", "d", "e", "f", "g"]'})
    assert hp.load(f"resnet18@{tmp_path}/w.safetensors").class_index("g") == 6


def test_timm_with_a_checkpoint(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("resnet10t", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "t.pth")
    model = hp.load(f"timm:resnet10t@{tmp_path}/t.pth")
    assert fingerprint(model) == fingerprint(network)
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


class Sneaky:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": Sneaky()}, tmp_path / "evil.pth")
    with pytest.raises(hp.ModelError, match=r"not made: reading it would run code \(.*exec\), so it is refused"):
        hp.load(f"resnet18@{tmp_path}/evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Sneaky()))
    with pytest.raises(hp.ModelError, match=r"refused|damaged|cannot be read"):
        hp.load(f"resnet18@{tmp_path}/plain.pth")


def test_of_a_whole_pickled_model_the_tensors_are_read(tmp_path: Path, resnet: nn.Module) -> None:
    torch.save(resnet, tmp_path / "whole.pth")
    assert fingerprint(hp.load(f"resnet18@{tmp_path}/whole.pth")) == fingerprint(resnet)


def test_names_that_do_not_fit_are_told(tmp_path: Path, resnet: nn.Module) -> None:
    state = resnet.state_dict()
    state["conv1.wieght"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(hp.ModelError, match=r"1 missing \(conv1.weight\) and 1 unexpected .*is conv1.wieght meant"):
        hp.load(f"resnet18@{tmp_path}/w.pth")
    state = resnet.state_dict()
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(hp.ModelError, match=r"conv1.weight: \[64, 3, 7, 7\] expected, \[64, 3, 3, 3\] found"):
        hp.load(f"resnet18@{tmp_path}/w.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt50", "there is no model 'resnt50'; did you mean resnet50"),
        ("timm:resnt18", "timm has no model 'resnt18'; did you mean resnet18"),
        ("resnet18@missing.pth", "there is no checkpoint missing.pth"),
        ("resnet18(weights='IMAGENET1K_V9')", "did you mean IMAGENET1K_V1"),
        ("resnet18(3)", "cannot be read; write name"),
        ("missing.py:build", "there is no file missing.py"),
    ],
)
def test_wrong_names_are_told(name: str, message: str) -> None:
    with pytest.raises(hp.ModelError, match=message):
        hp.load(name)


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(hp.ModelError) as caught:
        hp.load("resnet18")
    assert "Put the file resnet18-f37072fd.pth at" in str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)


def test_weights_in_the_hub_cache_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(weights=None)
    place = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    place.parent.mkdir(parents=True)
    torch.save(network.state_dict(), place)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = hp.load("squeezenet1_1")
    assert fingerprint(model) == fingerprint(network)
    assert model.classes is not None
    assert model.classes[243] == "bull mastiff"


FACTORY = """
from torch import nn

def build(width=4):
    convolution = [nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(width, 2))
    network.mean, network.std, network.input_size, network.classes = (0, 0, 0), (1, 1, 1), 12, ["no", "yes"]
    return network

def broken():
    raise ValueError("oh no")

def nothing():
    return 3
"""


def test_a_factory_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    model = hp.load(f"{tmp_path}/mine.py:build")
    assert (model.name, model.input_size, model.classes) == ("build", 12, ["no", "yes"])
    assert hp.load(f"{tmp_path}/mine.py:build(width=6)").network.get_parameter("0.weight").shape[0] == 6
    with pytest.raises(hp.ModelError, match="failed: ValueError: oh no"):
        hp.load(f"{tmp_path}/mine.py:broken")
    with pytest.raises(hp.ModelError, match=r"must return an nn\.Module or a Classifier, got int"):
        hp.load(f"{tmp_path}/mine.py:nothing")
    with pytest.raises(hp.ModelError, match="has no factory 'biuld'; did you mean build"):
        hp.load(f"{tmp_path}/mine.py:biuld")


def test_wrappers_are_taken_off(resnet: nn.Module) -> None:
    assert hp.Classifier(nn.DataParallel(resnet)).network is resnet
    compiled: Any = torch.compile(resnet)
    assert hp.Classifier(compiled).network is resnet
    with pytest.raises(hp.ModelError, match="scripted or traced"):
        hp.Classifier(torch.jit.script(nn.Sequential(nn.ReLU())))


class TwoOutputs(nn.Module):
    def forward(self, x):
        return {"first": x, "second": x}


def test_what_is_no_classifier_is_told() -> None:
    with pytest.raises(hp.ModelError, match="which part is the logits is not known"):
        hp.Classifier(TwoOutputs())(torch.rand(1, 3, 8, 8))
    with pytest.raises(hp.ModelError, match=r"returned \(1, 3, 8, 8\)"):
        hp.Classifier(nn.Identity())(torch.rand(1, 3, 8, 8))


@pytest.mark.weights
def test_real_weights_through_both_doors(shared: Path) -> None:
    a = hp.load(f"squeezenet1_1@{shared}/weights/squeezenet1_1.pth")
    b = hp.load(f"{shared}/weights/zoo.py:squeezenet1_1")
    assert fingerprint(a) == fingerprint(b)
    assert a.input_size == b.input_size == 224


def test_demo_is_the_packaged_network_where_its_own_run_is_called_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").write_text('{"format": 1, "command": "demo", "model": []}')
    assert hp.load("demo").name == "demo"
    with pytest.raises(hp.ModelError, match="holds no model"):
        hp.load("./demo")


def test_timms_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*args, **kwargs):
        raise OSError("no network\nat all")

    monkeypatch.setattr(timm, "create_model", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = (
        r"timm:resnet18 could not be fetched \(no network\)\. Put model\.safetensors of timm/resnet18\.\w+ into the hub"
    )
    with pytest.raises(hp.ModelError, match=said):
        hp.load("timm:resnet18")
    config = timm.get_pretrained_cfg("resnet18")
    assert config is not None
    elsewhere = replace(config, hf_hub_id=None, url="https://example.org/resnet18-x.pth")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: elsewhere)
    with pytest.raises(
        hp.ModelError, match=r"Put the file resnet18-x\.pth at .*checkpoints/resnet18-x\.pth \(TORCH_HOME"
    ):
        hp.load("timm:resnet18")


@pytest.mark.parametrize(
    "name", ["resnet18(weights=None, num_classes=-1)", "timm:resnet18(pretrained=False, output_stride=5)"]
)
def test_a_network_that_cannot_be_built_is_a_sentence(name: str) -> None:
    with pytest.raises(hp.ModelError, match=r"resnet18\(.*\) cannot be built: "):
        hp.load(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_names_that_no_file_can_have_are_no_models(name: str) -> None:
    with pytest.raises(hp.ModelError, match="there is no model"):
        hp.load(name)


def test_a_file_in_the_place_of_a_name_is_told_how_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "sq.sd.pth"
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(hp.ModelError, match=re.escape(f"give NAME@{file}, such as resnet50@{file}")):
        hp.load(str(file))
