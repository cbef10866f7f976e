"""Does the default Grad-CAM look where the image changes? Of any architecture, with random weights.

A bright square is put at five places of a faint noise. What it changes in the map has a centre; the centre must
follow the square, in its rows and in its columns. A map read in the wrong layout, or where the score has no gradient,
does not.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import heatproof as hp
from heatproof.explainers.together import explain_together
from heatproof.vision import torchvision

PLACES = tuple((row, col) for row in (0.2, 0.5, 0.8) for col in (0.2, 0.5, 0.8))
"""Centres of the square, in parts of the image's rows and columns."""
ENOUGH = 0.9
"""The least correlation of the square's place with the map's centre, of rows and of columns."""
SEEDS = (0, 1, 2)
"""Random weights that hide the square are drawn again, and the changes of all draws are averaged."""
READ = tuple(f"models/{name}.py" for name in ("axes", "axis_rules", "following", "layout", "choice"))
"""What a result depends on; results of other texts are made again."""


@dataclass
class Result:
    """Of one architecture."""

    name: str
    status: str
    """works, refused, wrong or error."""
    layer: str = ""
    shape: str = ""
    rows: float = float("nan")
    cols: float = float("nan")
    """Correlations with the square's place."""
    reason: str = ""
    seconds: float = 0.0
    text: str = ""


def build(name: str, seed: int = 0) -> hp.Classifier:
    """The architecture with random weights and random running statistics."""
    torch.manual_seed(seed)
    size = 224
    if name.startswith("timm:"):
        import timm

        network: Any = timm.create_model(name.removeprefix("timm:"), pretrained=False, num_classes=10)
        size = network.pretrained_cfg["input_size"][-1]
    else:
        more = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
        network = torchvision.models.get_model(name, weights=None, num_classes=10, **more)
        size = 299 if name == "inception_v3" else 224
    for weights in network.parameters():
        # heads that begin at zero hear nothing of the image
        if not weights.any():
            weights.data.normal_(0, 0.02)
    _randomise_norms(network, squares(size))
    return hp.Classifier(network.eval(), (0.5,) * 3, (0.25,) * 3, input_size=size, name=name)


def _randomise_norms(network: nn.Module, images: Tensor) -> None:
    """Random batch norms, about the statistics of the photos: about 0 and 1 the signal of a deep network dies out."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        if norm.affine:
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.1)
    network.train()
    with torch.no_grad():
        network((images - 0.5) / 0.25)
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 1.5)


def squares(size: int) -> Tensor:
    """Faint noise, and the same with a bright square at each of the places."""
    base = 0.5 + 0.02 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    images = base.repeat(1 + len(PLACES), 1, 1, 1)
    side = size // 4
    for image, (row, col) in zip(images[1:], PLACES, strict=True):
        top, left = round(row * size - side / 2), round(col * size - side / 2)
        image[:, max(0, top) : top + side, max(0, left) : left + side] = 1
    return images.clamp(0, 1)


def changes(heatmaps: Float[Tensor, "images classes rows cols"]) -> Float[Tensor, "places rows cols"]:
    """What the square at each place changes in the maps, averaged over the classes; sums to 1."""
    changed = (heatmaps[1:] - heatmaps[:1]).abs().double().mean(1)
    return changed / changed.sum((1, 2), keepdim=True)


def followed(changed: Float[Tensor, "places rows cols"]) -> tuple[float, float]:
    """How the centre of what changed follows the square: correlations of rows and of columns.

    Random weights mix much of the image into every cell: what all places share is taken off.
    """
    changed = (changed - changed.mean(0)).relu()
    found = []
    for axis in (1, 2):
        cells = torch.arange(changed.shape[axis], dtype=torch.float64)
        centres = (changed.sum(3 - axis) * cells).sum(1) / changed.sum((1, 2))
        wanted = torch.tensor([place[axis - 1] for place in PLACES], dtype=torch.float64)
        found.append(float(torch.corrcoef(torch.stack([centres, wanted]))[0, 1]))
    return found[0], found[1]


def judge(name: str) -> Result:
    """One architecture: works, refused by a sentence, wrong, or an exception that is none of ours."""
    began = time.perf_counter()
    result = Result(name, "error", text=text())
    try:
        explainer, classes = hp.GradCAM(relu=False), torch.arange(10)
        total = torch.zeros(())
        for seed in SEEDS:
            model = build(name, seed)
            images = squares(model.input_shape[0])
            result.layer = hp.default_layer(model, images[:1])
            maps = torch.cat([explain_together(model, i[None], [explainer], classes).heatmaps[0] for i in images])
            result.shape = "x".join(map(str, maps.shape[2:]))
            total = total + changes(maps)
            result.rows, result.cols = followed(total)
            result.status = "works" if min(result.rows, result.cols) > ENOUGH else "wrong"
            if result.status == "works":
                break
    except hp.HeatproofError as error:
        result.status, result.reason = "refused", str(error)
    # what must not happen is a result of its own
    except Exception as error:
        result.reason = f"{type(error).__name__}: {error}"[:500]
    result.seconds = round(time.perf_counter() - began, 2)
    return result


def text() -> str:
    """Digits of the sources that a result depends on."""
    root = Path(hp.__file__).parent
    return hashlib.sha256(b"".join((root / file).read_bytes() for file in READ)).hexdigest()[:12]


def judged(names: Sequence[str], kept: Path, seconds: float = float("inf")) -> list[Result]:
    """Each of the names; what the file holds is not made again, and what is made is kept at once."""
    began, now = time.perf_counter(), text()
    found: dict[str, Result] = {}
    if kept.is_file():
        found = {entry["name"]: Result(**entry) for entry in map(json.loads, kept.read_text().splitlines())}
    for name in names:
        if name in found and found[name].text == now:
            continue
        if time.perf_counter() - began > seconds:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = judge(name)
        with kept.open("a") as file:
            file.write(json.dumps(asdict(found[name])) + "\n")
    return [found[name] for name in names if name in found and found[name].text == now]
