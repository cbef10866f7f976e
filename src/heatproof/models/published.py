"""How photos come to networks that say it themselves: torchvision's, timm's, and those of runs."""

import json
import math
from pathlib import Path
from typing import Any

from heatproof.errors import InputError, ModelError
from heatproof.paths import read_file
from heatproof.preprocessing import Preprocessing

Settings = dict[str, Any]
"""Arguments of :class:`~heatproof.models.classifier.Classifier`: ``input_size``, ``resize``, ``fit``, ..."""


def of_torchvision(preset: Any) -> Settings:
    """From the transforms of torchvision's weights (``ImageClassification``)."""
    return {
        "input_size": preset.crop_size[0],
        "resize": preset.resize_size[0],
        "interpolation": preset.interpolation.value,
        # of photos, Pillow's resizing averages whatever the preset says of tensors
        "antialias": True,
    }


def of_timm(network: Any) -> Settings:
    """From a timm network's ``pretrained_cfg``, by timm's own ``resolve_data_config``.

    Raises:
        ModelError: the photo would be padded, or is interpolated at random.
    """
    from timm.data import resolve_data_config

    config = resolve_data_config(pretrained_cfg=network.pretrained_cfg)
    rows, cols = config["input_size"][-2:]
    if config["crop_mode"] not in ("center", "squash") or config["interpolation"] == "random":
        raise ModelError(
            f"timm gives this network photos by crop_mode={config['crop_mode']!r} and interpolation="
            f"{config['interpolation']!r}, which are not made here; wrap it yourself in a Classifier"
        )
    return {
        "input_size": (rows, cols),
        "resize": (math.floor(rows / config["crop_pct"]), math.floor(cols / config["crop_pct"])),
        "fit": "squash" if config["crop_mode"] == "squash" else "crop",
        "interpolation": config["interpolation"],
    }


def of_size(known: Settings) -> Settings:
    """What is left for weights of the user's own: the input size; how his photos came to it, nobody has said."""
    return {"input_size": known["input_size"]}


def of_run(folder: Path) -> Preprocessing | None:
    """What a run recorded of its first model's photos; ``None``: it is of an earlier version.

    Raises:
        ModelError: it is no preprocessing.
    """
    try:
        models = json.loads(read_file(folder / "run.json"))["model"]
        recorded = (models[0] if isinstance(models, list) else models).get("preprocessing")
        if recorded is None:
            return None
        known: Settings = {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
        return Preprocessing(**known)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InputError) as error:
        raise ModelError(f"{folder / 'run.json'} does not say how photos come to its model: {error}") from error
