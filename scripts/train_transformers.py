"""Train the small transformers of the tests and the studies, and measure them.

    python scripts/train_transformers.py vit_scenes vit_scenes.safetensors
    python scripts/train_transformers.py vit vit.safetensors --data train-50000.parquet --test test/

Of a network of scenes it prints, on scenes with held-out digits, the accuracy, and the share of two-digit scenes'
maps whose highest cell lies in the box of the digit that is explained, and in the other's. A training that was
stopped goes on.
``--half`` keeps the weights in 16 bits, as the tests' file is.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from heatproof.commands.photos import open_photos
from heatproof.data.batches import batches
from heatproof.data.scenes import scenes
from heatproof.data.sources import open_data
from heatproof.errors import ModelError
from heatproof.explainers.attention import AttentionRollout, Chefer
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.lrp.propagation import LRP
from heatproof.metrics.localisation import pointing_game
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.studies import small_networks, small_transformers
from heatproof.studies.scene_training import train_on_scenes
from heatproof.training.data import feed_photos
from heatproof.types import Explainer

EXPLAINERS: dict[str, Explainer] = {
    "AttnLRP at the default layer": LRP("default", "attnlrp"),
    "the same, of the contrast": LRP("default", "attnlrp", score="contrast"),
    "AttnLRP at the pixels": LRP(None, "attnlrp"),
    "the same at the pixels, of the contrast": LRP(None, "attnlrp", score="contrast"),
    "CP-LRP at the default layer": LRP("default", "cp_lrp"),
    "the same by CP-LRP, of the contrast": LRP("default", "cp_lrp", score="contrast"),
    "Chefer": Chefer(),
    "Chefer, of the contrast": Chefer(score="contrast"),
    "attention rollout": AttentionRollout(),
    "Grad-CAM": GradCAM(),
    "Grad-CAM, of the contrast": GradCAM(score="contrast"),
}


def measure_scenes(model: Classifier, count: int = 1024, seed: int = 1) -> None:
    """Accuracy and pointing game on scenes whose digits were not trained on."""
    for digits, name in ((1, "one digit"), (2, "both digits of two")):
        drawn = scenes(count, seed, "test", digits)
        images, labels = small_transformers.small(drawn.images), drawn.labels.view(count, -1)
        with torch.no_grad():
            logits = torch.cat([model(part) for part in images.split(256)])
        named = (logits.topk(digits).indices.sort(1).values == labels.sort(1).values).all(1)
        print(f"{name}: {named.double().mean():.4f} of {count} right", flush=True)
    few = slice(0, count // 4)
    images, labels, boxes, named = images[few], labels[few], drawn.boxes[few].float() / 64, named[few].repeat(2)
    for name, explainer in EXPLAINERS.items():
        try:
            maps = torch.cat([explainer(model, images, labels[:, digit]).heatmaps for digit in (0, 1)])
        except ModelError as error:
            print(f"{name}: {error}")
            continue
        own, other = (pointing_game(maps, torch.cat([boxes[:, digit], boxes[:, 1 - digit]])) for digit in (0, 1))
        print(
            f"{name}: {own.nanmean():.4f} of {len(maps)} maps on their digit, {other.nanmean():.4f} on the other; "
            f"{own[named].nanmean():.4f}, {other[named].nanmean():.4f} of the {int(named.sum())} where both are named",
            flush=True,
        )


def measure_photos(model: Classifier, test: str) -> None:
    source = open_photos(model, test)
    right = 0
    for batch in batches(source, model.preprocessing, 256):
        with torch.no_grad():
            right += int((model(batch.images).argmax(1) == batch.labels).sum())
    print(f"{right / len(source):.4f} of {len(source)} right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["vit", "swin", "vit_scenes", "swin_scenes"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", help="photos to train vit and swin on")
    parser.add_argument("--test", help="photos to measure them on")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--judge", type=int, default=1, help="seed of the scenes to measure on")
    asked = parser.parse_args()
    build, start = getattr(small_transformers, asked.network), time.process_time()
    if asked.network.endswith("_scenes"):
        train_on_scenes(build, asked.file, seed=asked.seed)
    elif asked.data is None:
        parser.error(f"{asked.network} is trained on photos; name them with --data")
    else:
        photos = open_data(asked.data, classes=small_networks.CLASSES)
        feed = feed_photos(photos, small_transformers.SIZE)
        small_transformers.train_on_photos(build, asked.file, feed, epochs=asked.epochs, seed=asked.seed)
    print(f"{(time.process_time() - start) / 60:.1f} minutes of the processor")
    if asked.half:
        save_file({name: value.half() for name, value in load_file(asked.file).items()}, asked.file)
    model = load(f"{small_transformers.__file__}:{asked.network}@{asked.file}")
    if asked.network.endswith("_scenes"):
        measure_scenes(model, seed=asked.judge)
    elif asked.test is not None:
        measure_photos(model, asked.test)


if __name__ == "__main__":
    main()
