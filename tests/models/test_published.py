"""Photos come to published networks as the libraries that publish them say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import heatproof as hp
from heatproof.data.photos import fit, read_photo
from heatproof.errors import ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.published import of_run, of_timm
from heatproof.preprocessing import Preprocessing
from heatproof.vision import torchvision

# those of small networks, which are quick to build, and of every way that the two libraries have
PUBLISHED = [
    "resnet18",  # 256, 224
    "resnet50",  # V2: 232
    'resnet50(weights="IMAGENET1K_V1")',
    "mobilenet_v3_small",
    "convnext_tiny",  # 236
    "swin_t",  # 232, bicubic
    "efficientnet_v2_s",  # 384, uncropped
    "efficientnet_b1",  # 255, 240, bicubic in V1
    "inception_v3",  # 342, 299
    "timm:resnet18",
    "timm:mobilenetv3_small_100",
    "timm:legacy_xception",  # 299, 0.8975
    "timm:convnext_atto",
    "timm:vit_tiny_patch16_224",  # 0.9, bicubic
    "timm:eva02_tiny_patch14_336",  # squashed
]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coarse and fine detail, higher than wide."""
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 9, 3), dtype=np.uint8)).resize(
        (311, 420), Image.Resampling.BICUBIC
    )
    noise = draw.integers(-20, 21, (420, 311, 3))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def made(name: str, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The classifier without its weights: on no memory, so that large networks are built at once."""
    if "weights=" in name:
        models = torchvision.models
        entry = models.get_model_weights("resnet50")["IMAGENET1K_V1"]
        network = models.resnet50()
        monkeypatch.setattr(models, "get_model", lambda *_, **__: network)
        assert entry.transforms().resize_size == [256]
    return hp.load(name, pretrained=False)


def librarys_own(name: str, model: Classifier) -> Any:
    if not name.startswith("timm:"):
        plain, _, weights = name.partition("(")
        entry = "IMAGENET1K_V1" if weights else "DEFAULT"
        return torchvision.models.get_model_weights(plain)[entry].transforms()
    from timm.data import create_transform, resolve_data_config

    return create_transform(**resolve_data_config(model=model.network), is_training=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_tensor_is_that_of_the_librarys_own_transform(name: str, photo: Path, monkeypatch) -> None:
    model = made(name, monkeypatch)
    ours = model.normalised(fit(read_photo(photo), model.preprocessing)[None])[0]
    with Image.open(photo) as image:
        theirs = librarys_own(name, model)(image.convert("RGB"))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_a_photo_of_the_input_size_is_resized_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    model = hp.load("resnet18", pretrained=False)
    ours = model.normalised(fit(read_photo(tmp_path / "square.png"), model.preprocessing)[None])[0]
    theirs = torchvision.models.get_model_weights("resnet18")["DEFAULT"].transforms()(Image.fromarray(pixels))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_weights_of_ones_own_say_nothing_of_photos(tmp_path: Path) -> None:
    network = torchvision.models.resnet50(num_classes=3)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    assert hp.load(f"resnet50@{tmp_path / 'mine.pth'}").preprocessing == Preprocessing(224)


def test_a_file_of_torchvisions_says_by_its_name_which_weights_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "resnet50-11ad3fa6.pth"
    torch.save(torchvision.models.resnet50(num_classes=1000).state_dict(), file)
    assert hp.load(f"resnet50@{file}").resize == 232


def test_timms_padding_is_refused_by_name() -> None:
    network = nn.Conv2d(3, 2, 1)
    network.pretrained_cfg = {"input_size": (3, 8, 8), "crop_mode": "border"}  # type: ignore[assignment]
    with pytest.raises(ModelError, match="crop_mode='border'"):
        of_timm(network)


def test_a_run_remembers_how_photos_came(tmp_path: Path) -> None:
    wanted = Preprocessing((96, 320), (100, 400), "squash", "bicubic", range=(0, 4095), channels=1)
    (tmp_path / "run.json").write_text(json.dumps({"model": [{"name": "x", "preprocessing": wanted.plain()}]}))
    assert of_run(tmp_path) == wanted
    model = Classifier(nn.Conv2d(1, 2, 3))
    model.preprocessing = wanted
    assert model.preprocessing == wanted
    (tmp_path / "run.json").write_text(json.dumps({"model": [{"name": "x"}]}))
    assert of_run(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps({"model": [{"name": "x", "preprocessing": {"size": "huge"}}]}))
    with pytest.raises(ModelError, match="how photos come"):
        of_run(tmp_path)
