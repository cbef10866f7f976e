"""Grad-CAM at two layers and for two classes of one photo, on several networks: the first picture of every course.

The original: ResNet-50 (``layer3``, ``layer4``) and VGG-16 (``features.25``, ``features.29``), bull mastiff (243) and
tiger cat (282), with and without ReLU, and what speaks against a class. On networks that end in global average pooling
and a linear layer Grad-CAM without ReLU must equal CAM / Z; the study prints by how much it does not.
"""

from collections.abc import Callable
from typing import Any

import torch

from heatproof.commands.explain import draw_grid
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.errors import ModelError
from heatproof.explainers.cam import CAM, GradCAM, cam_layer
from heatproof.explainers.together import explain_together
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer, list_layers
from heatproof.models.loading import load
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.studies.shared import shared
from heatproof.types import Images, settings

LAYERS = {"resnet50": ("layer3", "layer4"), "vgg16": ("features.25", "features.29")}
"""The original's layers; for other networks the default layer, and the last map of twice its size."""


@settings
class GradCAMLayers:
    """Grad-CAM at two layers and for two classes of one photo.

    Args:
        models: names that ``heatproof explain --model`` takes.
        photo: a file; empty: the dog and the cat of the Grad-CAM paper, from ``../shared``.
        classes: names or numbers, looked up in each model.
    """

    models: tuple[str, ...] = ("resnet50", "vgg16")
    photo: str = ""
    classes: tuple[str | int, ...] = (243, 282)
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "model": "model",
        "explainer": "explainer",
        "target_name": "class",
        "probability": "probability",
        "minimum": "least",
        "maximum": "largest",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        source = open_data(self.photo or str(shared("data/photos/both.png")), classes=None)
        rows, described, answer = [], [], []
        for name in self.models:
            model = hardware.host(load(name))
            described.append(model_record(model))
            layers = LAYERS.get(model.name) or two_layers(model)
            targets = [model.class_index(wanted) for wanted in self.classes]
            explainers = [
                GradCAM(layer, relu=relu, counterfactual=counterfactual)
                for layer in layers
                for relu, counterfactual in ((True, False), (False, False), (True, True))
            ]
            batch = next(iter(batches(source, model.preprocessing, 1)))
            images = hardware.bring(batch.images)
            with hardware.autocast():
                grid = explain_together(model, images, explainers, torch.tensor([targets], device=images.device))
            draw_grid(
                run.path(f"figures/{slug(model.name)}.png"),
                model,
                batch.images[0],
                explainers,
                grid,
                0,
                title=f"{model.name}: {' and '.join(layers)}",
            )
            probabilities = grid.logits[0].float().softmax(0)
            for explainer, maps in zip(explainers, grid.heatmaps, strict=True):
                for row, target in enumerate(targets):
                    rows.append(
                        {
                            "image": batch.ids[0],
                            "model": model.name,
                            "explainer": repr(explainer),
                            "target": target,
                            "target_name": model.class_name(target),
                            "probability": float(probabilities[target]),
                            "maximum": float(maps[0, row].max()),
                            "minimum": float(maps[0, row].min()),
                            "empty": bool((maps[0, row] == 0).all()),
                        }
                    )
            answer.append(cam_sentence(model, images, targets))
            say(answer[-1])
        run.describe(model=described, data=data_record(source))
        run.write_parquet("images.parquet", rows)
        summary = {"answer": answer, "rows": rows, "skipped": source.skipped}
        run.write_json("summary.json", summary)
        return summary


def two_layers(model: torch.nn.Module) -> tuple[str, ...]:
    """The default layer, and before it the last map of at least twice its rows (a coarser look and a finer one)."""
    last = default_layer(model)
    layers = {layer.name: layer for layer in list_layers(model)}
    rows = layers[last].shape[1]
    finer = [name for name, layer in layers.items() if len(layer.shape) == 3 and rows * 2 - 1 <= layer.shape[1] < 64]
    finer = [name for name in finer if not layers[name].pooling and name.count(".") <= 1]
    return (finer[-1], last) if finer else (last,)


def cam_sentence(model: Classifier, images: Images, targets: list[int]) -> str:
    """Whether Grad-CAM without ReLU equals CAM / Z here, with the largest error relative to the map's maximum."""
    wanted = torch.tensor(targets[:1], device=images.device)
    try:
        cam = CAM()(model, images, wanted)
    except ModelError as error:
        return f"{model.name}: CAM does not apply ({error})"
    layer = cam_layer(model, images)
    gradcam = GradCAM(layer, relu=False)(model, images, wanted)
    cells = cam.heatmaps[0].numel()
    error = float((gradcam.heatmaps - cam.heatmaps / cells).abs().max() / gradcam.heatmaps.abs().max())
    return f"{model.name}: at {layer} Grad-CAM without ReLU equals CAM / {cells} up to {error:.1e} of its maximum."
