"""What an audit can see when the model that a checkpoint claims to be is at hand as well."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.data.batches import Batch
from heatproof.errors import InputError
from heatproof.explainers.together import explain_together
from heatproof.heatmaps import pearson, resize
from heatproof.manipulation.penalties import CenterMass, Location, TopK
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.similarity import known_nissim, spearman
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.types import Explainer

PENALTIES: dict[str, Location | TopK | CenterMass] = {
    "location": Location(),
    "top_k": TopK(),
    "center_mass": CenterMass(),
}
"""The known foolings whose success rate is measured; a swap of classes is looked for by :func:`swapped`."""
PAIRS = 10
"""Photos that a pair of classes needs to be called swapped."""


class Beside(NamedTuple):
    """One batch beside the reference: columns per photo, and how alike the maps of its classes are."""

    rows: list[dict[str, Any]]
    likeness: Float[Tensor, "photos classes classes"]


@dataclass(frozen=True)
class MovedLayer:
    """||w - w0|| / ||w0|| of one layer's numbers."""

    layer: str
    moved: float


@dataclass(frozen=True)
class Comparison:
    """All photos beside the reference.

    Attributes:
        rates: fooling success rates by the names of :data:`PENALTIES`.
        agreement: the share of equal predictions.
        layers: the farthest moved first, or why they cannot be compared.
    """

    rates: dict[str, float]
    agreement: float
    layers: Sequence[MovedLayer] | str

    def plain(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        layers = self.layers if isinstance(self.layers, str) else [asdict(layer) for layer in self.layers]
        return {**self.rates, "agreement": self.agreement, "layers": layers}


def check_classes(model: Classifier, reference: Classifier) -> None:
    """Stop a reference of another task.

    Raises:
        InputError: the classes differ.
    """
    if model.classes != reference.classes:
        raise InputError(
            f"{model.name} and {reference.name} have different classes; a reference is the model that the audited one "
            "was made from, or claims to be"
        )


def beside(
    model: Classifier,
    reference: Classifier,
    explainer: Explainer,
    batch: Batch,
    targets: Tensor,
    hardware: Hardware,
    name: str = "reference",
) -> Beside:
    """Columns per photo of what differs from the reference, for the class that the model predicts.

    Args:
        targets: the classes explained, ``[photos, classes]``, the predicted one first.
        name: what the columns begin with: those of a reference of the model's own have limits of their own.
    """
    images = hardware.bring(batch.images)
    targets = targets.to(images.device)
    with hardware.autocast():
        one, other = (explain_together(m, images, [explainer], targets) for m in (model, reference))
    own, maps = one.heatmaps[0].detach().float(), other.heatmaps[0].detach().float()
    if own.shape != maps.shape:
        maps = resize(maps.flatten(0, 1), (own.shape[2], own.shape[3])).view_as(own)
    first, theirs = own[:, 0], maps[:, 0]
    columns: dict[str, Tensor] = {
        "agrees": one.logits.argmax(1) == other.logits.argmax(1),
        f"{name}_spearman": spearman(first, theirs),
        f"{name}_nissim": known_nissim(first, theirs, size=model.input_size),
    }
    for lie, penalty in PENALTIES.items():
        columns[f"fooled_{lie}"] = is_fooled(penalty.test_loss(first, theirs), penalty.success)
    lists = {column: [None if v != v else v for v in found.tolist()] for column, found in columns.items()}
    rows = [{column: found[i] for column, found in lists.items()} for i in range(len(images))]
    classes = own.shape[1]
    a = own.repeat_interleave(classes, 1).flatten(0, 1).flatten(1)
    b = maps.repeat(1, classes, 1, 1).flatten(0, 1).flatten(1)
    return Beside(rows, pearson(a, b).view(len(images), classes, classes))


def swapped(
    likeness: Float[Tensor, "photos classes classes"], targets: Int[Tensor, "photos classes"]
) -> tuple[float, tuple[int, int]] | None:
    """The pair of classes whose maps look most like each other's: how much more than like their own.

    min over both classes of mean_photos r(h_c, h'_c') - r(h_c, h'_c), h the model's and h' the reference's maps.
    **Range** [-2, 2], above 0: each class's map is more like the other's than like its own.

    Args:
        likeness: ``[photos, classes, classes]``, the model's class first.
        targets: which classes these are, ``[photos, classes]``.

    Returns:
        The value and the pair; ``None`` where no pair has :data:`PAIRS` photos.

    >>> import torch
    >>> swapped(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).repeat(10, 1, 1), torch.tensor([[3, 5]] * 10))
    (1.0, (3, 5))
    """
    gains: dict[tuple[int, int], list[float]] = defaultdict(list)
    gain = likeness - likeness.diagonal(dim1=1, dim2=2)[:, :, None]
    for own, classes in zip(gain.tolist(), targets.tolist(), strict=True):
        for i, c in enumerate(classes):
            for j, other in enumerate(classes):
                if i != j and own[i][j] == own[i][j]:
                    gains[c, other].append(own[i][j])
    means = {pair: float(np.mean(found)) for pair, found in gains.items() if len(found) >= PAIRS}
    both = {
        (c, other): min(value, means[other, c])
        for (c, other), value in means.items()
        if c < other and (other, c) in means
    }
    if not both:
        return None
    pair = max(both, key=lambda key: both[key])
    return both[pair], pair


def moved_layers(model: Classifier, reference: Classifier) -> list[MovedLayer] | str:
    """How far each layer's numbers moved, the farthest first: ||w - w0|| / ||w0||; or why that cannot be said."""
    own, other = model.network.state_dict(), reference.network.state_dict()
    differing = sorted(
        {name for name in own.keys() | other.keys() if name not in own or name not in other}
        | {name for name in own.keys() & other.keys() if own[name].shape != other[name].shape}
    )
    if differing:
        return f"{len(differing)} tensors are missing in one of the two or differ in shape, first {differing[0]}"
    layers: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for name, value in own.items():
        if value.is_floating_point():
            layers[name.rpartition(".")[0]].append((value.double().cpu(), other[name].double().cpu()))
    rows = []
    for layer, pairs in layers.items():
        away = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
        size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
        rows.append(MovedLayer(layer, away / size if size else float(away > 0)))
    return sorted(rows, key=lambda row: -row.moved)


def describe_moves(layers: Sequence[MovedLayer] | str, at_most: int = 3) -> str:
    """The layers that moved, in words."""
    if isinstance(layers, str):
        return f"Weights cannot be compared layer by layer: {layers}."
    some = [row for row in layers if row.moved > 1e-6]
    if not some:
        return "No weight differs from the reference's."
    first = ", ".join(f"{row.layer} ({row.moved:.1%})" for row in some[:at_most])
    return f"{len(some)} of {len(layers)} layers differ from the reference's, most of all {first}."


def comparison(table: pl.DataFrame, model: Classifier, reference: Classifier) -> Comparison:
    """The columns of :func:`beside` over all photos, and the weights."""

    def share(column: str) -> float:
        return float(np.mean(table[column].cast(pl.Float64).to_list()))

    rates = {name: share(f"fooled_{name}") for name in PENALTIES}
    return Comparison(rates, share("agrees"), moved_layers(model, reference))
