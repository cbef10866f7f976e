"""What an audit measures on one batch of photos: a row per photo, and the maps and answers that later sums need."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from heatproof.attacks.gradient import FGSM
from heatproof.attacks.noise import GaussianNoise
from heatproof.attacks.objectives import misclassify
from heatproof.commands.audit.covering import FEWEST, Answers, agreement, jump, question, trust, unseen, witness_map
from heatproof.commands.audit.equivariance import equivariance
from heatproof.commands.audit.faithfulness import faithfulness, log_odds
from heatproof.commands.audit.kept import Maps, in_parts
from heatproof.commands.audit.plan import OVERHEAD, Plan, is_cheap, views
from heatproof.commands.audit.tensors import AuditTensors
from heatproof.commands.passes import Passes, counting
from heatproof.data.batches import Batch
from heatproof.data.mosaics import tile
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import explain_together
from heatproof.heatmaps import center_of_mass, is_empty, mass, normalise, pearson
from heatproof.manipulation.masks import frame
from heatproof.metrics.randomisation import Randomisation
from heatproof.metrics.removal import unordered
from heatproof.metrics.similarity import known_nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.types import Explainer, Explanation, Heatmaps, Images, PerImage, Targets, settings

CELLS = 56
"""The most cells a side of the witness's map that is kept for figures."""
CLASSES = 10
"""So many classes of each photo are explained, to find two that were swapped."""
SURE, STILL = 0.99, 0.01
"""A photo is taken so surely, and no square moves its probability by so much: its witness looks at the log-odds."""


@settings
class Audit:
    """What :func:`heatproof.commands.audit.run.run_audit` measures.

    Args:
        explainer: whose maps are audited.
        budget: forward passes per photo, all checks together, at most; more make the witness sharper.
        noise: of Gaussian noise, and ``epsilon`` of FGSM, both in pixel units of [0, 1]: steps that are hardly seen.
        epsilon: see ``noise``.
        randomised: photos on which the head's weights are drawn anew.
        part: photos that are measured and kept together.
        shown: photos in the figure of the strongest disagreement.
        seed: of the noise and of the new weights.

    Raises:
        InputError: a budget that leaves the witness too few questions, or a part without photos.
    """

    explainer: Explainer = GradCAM()
    budget: int = 180
    noise: float = 0.02
    epsilon: float = 2 / 255
    randomised: int = 32
    part: int = 20
    shown: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget < OVERHEAD + FEWEST:
            raise InputError(
                f"an audit takes at least {OVERHEAD + FEWEST} forward passes per photo ({FEWEST} of them for the "
                f"witness), got a budget of {self.budget}"
            )
        if self.part < 1:
            raise InputError(f"a part has at least 1 photo, got {self.part}")


class AuditedBatch(NamedTuple):
    """The rows of a batch of photos, and its tensors."""

    rows: list[dict[str, Any]]
    tensors: AuditTensors


def measure(
    settings: Audit, model: Classifier, batch: Batch, hardware: Hardware, randomised: int, plan: Plan
) -> AuditedBatch:
    """Everything about one batch but what needs a reference, or all photos.

    Args:
        randomised: of so many photos the map with a random head is made.
        plan: what is asked about each photo.
    """
    with counting(model) as passes:
        found = _measure(settings, model, batch, hardware, randomised, plan)
    return found._replace(rows=[{**row, **_per_photo(passes, len(batch.ids))} for row in found.rows])


def _per_photo(passes: Passes, count: int) -> dict[str, float]:
    return {"forward_passes": passes.forward / count, "backward_passes": passes.backward / count}


def _measure(
    settings: Audit, model: Classifier, batch: Batch, hardware: Hardware, randomised: int, plan: Plan
) -> AuditedBatch:
    images = hardware.bring(batch.images)
    with hardware.autocast():
        asked = _asked_maps(settings.explainer, plan.draft)
        grid = explain_together(model, images, list(asked.values()), top=CLASSES if is_cheap(plan.draft) else 1)
        targets = grid.targets[:, 0]
        maps = {name: found.detach().float() for name, found in zip(asked, grid.heatmaps, strict=True)}
        logits, heatmaps = grid.logits.float(), maps["map"][:, 0]
        drafted = maps.get("draft", maps["map"])[:, 0]
        bare = maps["bare"] if "bare" in maps else drafted[:, None] if "draft" in maps else maps["map"]
        signed = None if plan.along is None else asked.get("bare", plan.draft)
        answers = question(model, images, plan.questions, logits, signed, targets, plan.along or 0)
        witness = _witness(answers, targets)
        values: dict[str, Tensor] = {
            "agreement": agreement(heatmaps, answers, targets),
            "pooled": (pooled := agreement(heatmaps, answers, targets, pooled=True)),
            "jump": (jumps := jump(bare[:, 0], answers)),
            "unseen": (hidden := unseen(heatmaps, answers, targets)),
            "trust": trust(pooled, jumps, hidden),
            **faithfulness(model, images, heatmaps, witness, targets, logits, settings.seed),
            **_attacked(settings, plan.draft, model, images, drafted, targets),
        }
        if is_cheap(plan.draft):
            values["equivariance"] = equivariance(model, plan.draft, images, drafted, targets)
        chosen = slice(0, randomised)
        if randomised:
            known = _Known(model, plan.draft, Explanation(drafted[chosen], logits[chosen], targets[chosen]))
            drawn = Randomisation(at_most=1, seed=settings.seed)(model, known, images[chosen], targets[chosen])
            values["randomised"] = _padded(drawn[0].spearman_absolute, len(images))
    for name in ("contrast", "softmax_contrast"):
        if name in maps:
            values[name] = pearson(drafted, maps[name][:, 0])
    values |= {
        "frame": on_frame(heatmaps),
        "empty": unordered(heatmaps, "most") | is_empty(heatmaps),
        "prediction": logits.argmax(1),
        "confidence": logits.softmax(1).amax(1),
    }
    known = batch.labels.to(targets.device) >= 0
    lists = {name: _listed(found) for name, found in values.items()}
    rows = [
        {
            "image": image,
            "label": int(batch.labels[i]) if known[i] else None,
            "target": int(targets[i]),
            "correct": bool(lists["prediction"][i] == int(batch.labels[i])) if known[i] else None,
            "model": model.name,
            "explainer": repr(settings.explainer),
            **{name: found[i] for name, found in lists.items()},
        }
        for i, image in enumerate(batch.ids)
    ]
    height, width = witness.shape[1:]
    tensors = AuditTensors(
        maps=heatmaps,
        witness=F.adaptive_avg_pool2d(witness[:, None], (min(height, CELLS), min(width, CELLS)))[:, 0],
        targets=grid.targets,
        by_class=_by_class(bare, grid.targets, answers),
        tiles=(tile(images) * 255).round().to(torch.uint8),
    )
    return AuditedBatch(rows, tensors)


def on_frame(heatmaps: Heatmaps) -> PerImage:
    """The share of each map on Heo et al.'s frame (:func:`heatproof.manipulation.masks.frame`).

    **Range** [0, 1]; NaN where a map of fewer than 3 x 3 cells has no inside, and where nothing in it is positive.

    >>> on_frame(torch.ones(1, 4, 3))
    tensor([0.8333])
    """
    if min(heatmaps.shape[1:]) < 3:
        return heatmaps.new_full((len(heatmaps),), torch.nan)
    share = mass(heatmaps, frame(*heatmaps.shape[1:]).to(heatmaps))
    return share.masked_fill(is_empty(heatmaps, "max"), torch.nan)


def _asked_maps(explainer: Explainer, draft: Explainer) -> dict[str, Explainer]:
    """What is asked about the photo itself: the explainer, and the draft in all its views."""
    found = views(draft)
    return found if draft == explainer else {"map": explainer, "draft": found.pop("map"), **found}


class _Known(NamedTuple):
    """An explainer whose explanation of one model is known already, and costs no passes again."""

    model: Classifier
    explainer: Explainer
    explanation: Explanation

    def __call__(
        self, model: nn.Module, images: Images, targets: Targets | None = None, *, create_graph: bool = False
    ) -> Explanation:
        return self.explanation if model is self.model else self.explainer(model, images, targets)


def _witness(answers: Answers, targets: Targets) -> Float[Tensor, "batch height width"]:
    """The witness's map; by the log-odds where no square moves a probability that is near 1."""
    falls = answers.drops(targets, "probability")
    still = (answers.logits.softmax(1).amax(1) > SURE) & (falls.amax(1) < STILL)
    before, after = (log_odds(own, chosen) for own, chosen in _asked(answers, targets))
    odds = witness_map(answers, (before[:, None] - after).to(falls))
    return torch.where(still[:, None, None], odds, witness_map(answers, falls))


def _asked(answers: Answers, targets: Targets) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    squares = targets[:, None].expand(-1, answers.covered.shape[1])
    return (answers.logits, targets), (answers.covered, squares)


def _attacked(
    settings: Audit, explainer: Explainer, model: Classifier, images: Images, heatmaps: Heatmaps, targets: Targets
) -> dict[str, PerImage]:
    """NISSIM of the maps of the same class before and after; NaN where the answer changed or no map is positive."""
    objective = misclassify(model, targets)
    size = (images.shape[2], images.shape[3])
    found = {}
    for name, attack in (
        ("noise", GaussianNoise(settings.noise, seed=settings.seed)),
        ("fgsm", FGSM(settings.epsilon)),
    ):
        after = explainer(model, attack(objective, images), targets)
        moved = known_nissim(heatmaps, after.heatmaps.detach().float(), size=size)
        found[name] = moved.masked_fill(after.logits.argmax(1) != targets, torch.nan)
    return found


def _by_class(maps: Tensor, targets: Tensor, answers: Answers) -> Tensor:
    """Agreement of the maps of all explained classes with the witness of their logits' lead, [photos, classes]."""
    own = [agreement(maps[:, place], answers, targets[:, place], ("contrast",)) for place in range(targets.shape[1])]
    return torch.stack(own, 1)


def likeness(heatmaps: Maps) -> PerImage:
    """How alike each map is to the others: the mean of Pearson's correlation with them.

    **Range** [-1, 1], 1: all photos have the same map; NaN for a map that is equal everywhere.

    >>> maps = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]]])
    >>> [round(value, 6) for value in likeness(maps).tolist()]
    [0.0, 0.0, -1.0]
    """
    # twice through the parts, since not all maps may be in memory at once
    known, together = [], torch.zeros(())
    for part in in_parts(heatmaps):
        unit, known_here = _units(part)
        together = together + unit[known_here].sum(0)
        known.append(known_here)
    others = sum(int(own.sum()) for own in known) - 1
    found = []
    for part, known_here in zip(in_parts(heatmaps), known, strict=True):
        mean = (_units(part)[0] @ together - 1) / max(1, others)
        found.append(mean.masked_fill(~known_here | (others < 1), torch.nan).to(part.dtype))
    return torch.cat(found)


def _units(heatmaps: Heatmaps) -> tuple[Float[Tensor, "batch cells"], Bool[Tensor, "batch"]]:
    """Each map around its mean, of length 1, and whether it is not equal everywhere."""
    flat = normalise(heatmaps, "absmax").flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp(min=1e-9), norm[:, 0] > 1e-9


def center_distances(heatmaps: Maps) -> PerImage:
    """How far each map's centre of mass lies from the mean centre, over the diagonal of the grid; NaN without mass.

    **Range** [0, 1); 0 for all: the centre does not move.
    """
    centers, known, sides = [], [], [1, 1]
    for part in in_parts(heatmaps):
        centers.append(center_of_mass(part))
        known.append(~is_empty(part, "max"))
        sides = part.shape[1:]
    centers, known = torch.cat(centers), torch.cat(known)
    away = (centers - centers[known].mean(0)).norm(dim=1) / sum(side**2 for side in sides) ** 0.5
    return away.masked_fill(~known, torch.nan)


def _padded(values: Float[Tensor, "some"], count: int) -> PerImage:
    return torch.cat([values, values.new_full((count - len(values),), torch.nan)])


def _listed(values: Tensor) -> list[Any]:
    if values.dtype in (torch.bool, torch.int64):
        return values.tolist()
    return [None if value != value else value for value in values.double().tolist()]
