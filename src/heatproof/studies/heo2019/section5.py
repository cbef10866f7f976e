"""Is it the explanation that lies, or the model that changed? What section 5 of Heo et al. 2019 measures.

Each function takes a batch and gives rows for ``images.parquet``, one per image and condition.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from heatproof.attacks.objectives import misclassify
from heatproof.data.batches import Batch
from heatproof.metrics.confidence import ask
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.removal import unordered
from heatproof.metrics.weight_noise import Shaken
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.training.history import History
from heatproof.types import Attack, Explainer, Images, PerImage, Targets

ORDERS = ("clean map", "fooled map", "random")
"""By which map regions are removed."""


def made_once(
    run: Run,
    name: str,
    clean: Classifier,
    tune: Callable[[FileCheckpoint], tuple[Classifier, History]],
) -> tuple[Classifier, list[dict[str, Any]]]:
    """A model of an earlier start of this run, or one that is made now and kept; and the rows of its history.

    Args:
        name: of ``models/<name>.safetensors``.
        clean: what it was made from.
        tune: makes it, resuming from the checkpoint.
    """
    path, rows = run.path(f"models/{name}.safetensors"), f"models/{name}.json"
    if path.exists():
        made = copy.deepcopy(clean)
        made.network.load_state_dict(load_file(path))
        looks = json.loads(run.path(rows).read_text())
    else:
        made, history = tune(FileCheckpoint(run.path(f"checkpoint-{name}.pt")))
        looks = [{**row, "best": row["step"] == history.best, "stopped": history.stopped} for row in history.rows]
        # the rows first: a model without its history would never get one
        run.write_json(rows, looks)
        run.write_tensors(f"models/{name}.safetensors", made.network.state_dict())
        run.path(f"checkpoint-{name}.pt").unlink(missing_ok=True)
    made.name = name
    return made, looks


def removed(
    models: Mapping[str, Classifier], explainer: Explainer, batch: Batch, settings: AOPC, hardware: Hardware
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """AOPC of both models when regions go in the order of the clean map, of the fooled map, and in a random one.

    The class is the clean model's prediction throughout.

    Args:
        models: ``clean`` and ``fooled``.

    Returns:
        The rows, and each model's and order's curves ``[images, steps]``, by ``"model|order"``.
    """
    images = hardware.bring(batch.images)
    rows, curves = [], {}
    with hardware.autocast():
        maps, _, targets = explainer(models["clean"], images)
        lying = explainer(models["fooled"], images, targets).heatmaps
        given = {"clean map": maps.float(), "fooled map": lying.float(), "random": maps.float()}
        for model, classifier in models.items():
            for order in ORDERS:
                metric = replace(settings, order="random" if order == "random" else "most")
                drops = metric.curves(classifier, images, given[order], targets).cpu()
                curves[f"{model}|{order}"] = drops
                empty = unordered(given[order], metric.order).tolist()
                rows += [
                    {**_who(batch, i, targets), "model": model, "condition": order, "aopc": aopc, "empty": empty[i]}
                    for i, aopc in enumerate(drops.mean(1).tolist())
                ]
    return rows, curves


def shaken_rows(
    shaken: Shaken, model: str, explainer: Explainer, penalty: Any, batches: Iterable[Batch], hardware: Hardware
) -> list[dict[str, Any]]:
    """Right or wrong, and fooled or not, of one model under one draw of noise on its weights."""
    rows = []
    for batch in batches:
        images, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
        correct, fooled = judged(shaken.model, explainer, penalty, images, labels, hardware)
        rows += [
            {
                **_who(batch, i, labels),
                "model": model,
                "noise": shaken.level,
                "draw": shaken.draw,
                "correct": right,
                "fooled": lies,
            }
            for i, (right, lies) in enumerate(zip(correct.tolist(), fooled.tolist(), strict=True))
        ]
    return rows


def attacked_rows(
    model: Classifier, name: str, explainer: Explainer, penalty: Any, attack: Attack, batch: Batch, hardware: Hardware
) -> list[dict[str, Any]]:
    """Right or wrong on clean and on attacked images, and fooled or not on the clean ones."""
    images, labels = hardware.bring(batch.images), batch.labels.to(hardware.place)
    correct, fooled = judged(model, explainer, penalty, images, labels, hardware)
    with hardware.autocast():
        attacked = attack(misclassify(model, labels), images)
        robust = ask(model, attacked).argmax(1) == labels
    return [
        {
            **_who(batch, i, labels),
            "model": name,
            "correct": bool(correct[i]),
            "correct_attacked": bool(robust[i]),
            "fooled": bool(fooled[i]),
        }
        for i in range(len(batch.ids))
    ]


def judged(
    model: nn.Module, explainer: Explainer, penalty: Any, images: Images, labels: Targets, hardware: Hardware
) -> tuple[Tensor, Tensor]:
    """Whether the label is predicted and whether the label's heatmap lies as the penalty wants it.

    For penalties that need no reference; a map that is not finite (weights shaken too far) is not fooled.
    """
    with hardware.autocast():
        heatmaps, logits, _ = explainer(model, images, labels)
    heatmaps = heatmaps.detach().float()
    losses: PerImage = penalty.test_loss(heatmaps, heatmaps)
    return logits.argmax(1) == labels, is_fooled(losses, penalty.success)


def _who(batch: Batch, place: int, targets: Tensor) -> dict[str, Any]:
    label = int(batch.labels[place])
    return {"image": batch.ids[place], "label": label if label >= 0 else None, "target": int(targets[place])}
