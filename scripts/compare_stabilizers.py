"""AttnLRP and CP-LRP with the default stabilizer, 0.01, and with LXT's, 1e-6: how far apart, and which is better.

    python scripts/compare_stabilizers.py vit_scenes tests/studies/vit_scenes.safetensors
    python scripts/compare_stabilizers.py vit vit.safetensors --test test/

Of scenes with two held-out digits it prints the share of maps whose highest cell lies on their own digit, and AOPC;
of photos AOPC. Differences are 1e-6 minus 0.01, each with the standard error of the mean over images.
"""

import argparse
from itertools import product

import torch
from torch import Tensor

from heatproof import heatmaps
from heatproof.commands.photos import open_photos
from heatproof.data.batches import batches
from heatproof.data.scenes import scenes
from heatproof.explainers.lrp.propagation import LRP
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.localisation import pointing_game
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.studies import small_transformers

DEFAULT, SMALL = 0.01, 1e-6
SIDES = small_transformers.SIZE, small_transformers.SIZE


def told(name: str, ours: Tensor, small: Tensor) -> None:
    known = ours.isfinite() & small.isfinite()
    ours, small = ours[known].double(), small[known].double()
    moved = small - ours
    error = float(moved.std()) / len(moved) ** 0.5
    print(
        f"  {name}: {ours.mean():.4f}, {small.mean():.4f}, difference {moved.mean():+.4f} ({error:.4f}), {len(moved)}"
    )


def apart(ours: Tensor, small: Tensor) -> str:
    off = (small - ours).flatten(1).norm(dim=1) / small.flatten(1).norm(dim=1)
    ranks = heatmaps.pearson(heatmaps.ranks(ours), heatmaps.ranks(small))
    return f"relative difference {off.mean():.3f}, rank correlation {ranks.mean():.3f}"


def compare(model: Classifier, images: Tensor, targets: Tensor, boxes: Tensor | None, aopc: AOPC) -> None:
    for composite, layer in product(("attnlrp", "cp_lrp"), (None, "default")):
        ours, small = (
            LRP(layer, composite, stabilizer=s)(model, images, targets).heatmaps.detach() for s in (DEFAULT, SMALL)
        )
        print(f"{composite}, {layer or 'pixels'}: {apart(ours, small)}")
        if boxes is not None:
            told("on its own digit", *(pointing_game(maps, boxes) for maps in (ours, small)))
        big = (heatmaps.resize(maps, SIDES) for maps in (ours, small))
        told(repr(aopc), *(aopc(model, images, maps, targets) for maps in big))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["vit", "swin", "vit_scenes", "swin_scenes"])
    parser.add_argument("file")
    parser.add_argument("--test", help="photos, for vit and swin")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=101)
    asked = parser.parse_args()
    model = load(f"{small_transformers.__file__}:{asked.network}@{asked.file}")
    if asked.network.endswith("_scenes"):
        drawn = scenes(asked.count, asked.seed, "test", 2)
        images = small_transformers.small(drawn.images).repeat(2, 1, 1, 1)
        targets, boxes = drawn.labels.T.flatten(), drawn.boxes.transpose(0, 1).flatten(0, 1).float() / 64
        compare(model, images, targets, boxes, AOPC(region=4, steps=32, fill="mean"))
        return
    if asked.test is None:
        parser.error(f"{asked.network} is asked about photos; name them with --test")
    source = open_photos(model, asked.test, limit=asked.count, seed=asked.seed)
    images = torch.cat([batch.images for batch in batches(source, model.preprocessing, 64)])
    with torch.no_grad():
        targets = model(images).argmax(1)
    compare(model, images, targets, None, AOPC(region=4))


if __name__ == "__main__":
    main()
