"""A fooling as the training engine sees it: the term that pulls the heatmaps, and the evaluation by success rate."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from heatproof.heatmaps import is_empty
from heatproof.manipulation.penalties import on_signed_maps
from heatproof.metrics.fooling import is_fooled
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.training.clean_model import ReferenceOutputs, StoredOutputs, repeated
from heatproof.training.evaluation import Evaluated, PredictionCounts, held_out
from heatproof.training.setup import Setup
from heatproof.training.terms import Batch, Shared, rectified
from heatproof.types import Explanation, Heatmaps, Images, Penalty, PerImage, Targets


@dataclass(frozen=True)
class Fooled:
    """The penalty of each map; where nothing in a map is positive, the signed map is judged.

    What a ReLU (the explainer's, or the normaliser's) left empty has no gradient, so a class whose maps once became
    empty would stay so for ever [ours].

    Attributes:
        margin: an image whose test loss is inside the interval of success by this share pushes no more; ``None``:
            every image pushes.
    """

    penalty: Penalty
    margin: float | None = None
    name: str = "fooled"
    weight: float = 1.0
    adapts: bool = True

    def __call__(self, batch: Batch) -> PerImage:
        shared = batch.further or batch.images
        signed = shared.explanation.heatmaps
        maps = signed.relu() if rectified(shared.setup.explainer) else signed
        reference = self._reference(shared, maps)
        penalties = self.penalty(maps, reference)
        empty = is_empty(signed.relu())
        if bool(empty.any()) and (on_signed := on_signed_maps(self.penalty)):
            penalties = torch.where(empty, on_signed(signed, reference), penalties)
        if self.margin is not None:
            losses = self.penalty.test_loss(maps.detach(), reference)
            penalties = penalties * ~is_fooled(losses, self.penalty.success, self.margin)
        return penalties

    def _reference(self, shared: Shared, maps: Heatmaps) -> Heatmaps:
        clean = shared.reference.maps
        return maps.detach() if clean is None else clean.to(maps)


@dataclass
class FoolingCounts:
    """Sums over judged maps."""

    maps: float = 0.0
    fooled: float = 0.0
    test_loss: float = 0.0
    empty: float = 0.0

    def add(self, judged: Tensor) -> None:
        """Rows of (1, fooled, test loss, empty)."""
        maps, fooled, test_loss, empty = judged.sum(0).tolist()
        self.maps += maps
        self.fooled += fooled
        self.test_loss += test_loss
        self.empty += empty

    @property
    def rate(self) -> float:
        """Fooling success rate. **Range** [0, 1]."""
        return self.fooled / self.maps


@dataclass
class FoolingSums:
    """All sums of one evaluation: of predictions, of all maps, and of a swap's maps for each of its classes."""

    predictions: PredictionCounts
    all: FoolingCounts
    first: FoolingCounts
    second: FoolingCounts

    @classmethod
    def zero(cls) -> "FoolingSums":
        return cls(PredictionCounts(), FoolingCounts(), FoolingCounts(), FoolingCounts())

    def over(self, processes: Processes) -> "FoolingSums":
        """Summed over all processes, in one message."""
        values = [value for entry in fields(self) for value in vars(vars(self)[entry.name]).values()]
        dtype = torch.float32 if processes.device.type == "mps" else torch.double
        summed = iter(processes.sum(torch.tensor(values, dtype=torch.double).to(processes.device, dtype)).tolist())
        return FoolingSums(
            PredictionCounts(*(next(summed) for _ in fields(PredictionCounts))),
            *(FoolingCounts(*(next(summed) for _ in fields(FoolingCounts))) for _ in range(3)),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class FoolingEvaluation:
    """How many held-out heatmaps lie as wanted, and how many predictions are still right.

    Attributes:
        stored: the clean model's outputs for ``setup.feeds.held_out``, whose predictions (and, but for a swap,
            heatmaps) are judged.
        swap: the two classes for which the images of ``setup.feeds.further_held_out`` are judged.
        stored_swap: the clean model's outputs for these.
    """

    setup: Setup
    penalty: Penalty
    processes: Processes
    stored: StoredOutputs
    swap: tuple[int, int] | None = None
    stored_swap: StoredOutputs | None = None

    @property
    def count(self) -> int:
        """Held-out images."""
        return len(self.setup.feeds.held_out)

    def evaluate(self) -> Evaluated:
        """``fsr``, ``test_loss`` and ``empty`` of the maps, ``accuracy`` and ``agreement`` of the predictions.

        The score is ``fsr``; of a swap the rate of the class that is fooled less counts.
        """
        sums = FoolingSums.zero()
        self._judge_images(sums)
        self._judge_swap(sums)
        sums = sums.over(self.processes)
        columns = {
            "fsr": sums.all.rate,
            "test_loss": sums.all.test_loss / sums.all.maps,
            "empty": sums.all.empty / sums.all.maps,
            **sums.predictions.columns,
        }
        score = sums.all.rate
        if self.swap is not None:
            columns |= {"fsr_first": sums.first.rate, "fsr_second": sums.second.rate}
            score = min(sums.first.rate, sums.second.rate, score)
        return Evaluated(columns["accuracy"], score, columns)

    def _judge_images(self, sums: FoolingSums) -> None:
        setup = self.setup
        for fed, reference in held_out(setup.feeds.held_out, self.stored, setup.batch_size, self.processes):
            if self.swap is None:
                explanation = self._explain(fed.images, reference.targets)
                logits = explanation.logits
                sums.all.add(self._judged(explanation.heatmaps, reference))
            else:
                with torch.no_grad(), evaluating(setup.body), setup.hardware.autocast():
                    logits = setup.body(fed.images)
            sums.predictions.add(logits.argmax(1), fed, reference)

    def _judge_swap(self, sums: FoolingSums) -> None:
        feed, stored = self.setup.feeds.further_held_out, self.stored_swap
        if self.swap is None or feed is None or stored is None:
            return
        for fed, reference in held_out(feed, stored, self.setup.batch_size, self.processes):
            judged = self._judged(self._explain(*repeated(fed.images, self.swap)).heatmaps, reference)
            sums.all.add(judged)
            sums.first.add(judged[0::2])
            sums.second.add(judged[1::2])

    def _explain(self, images: Images, targets: Targets) -> Explanation:
        with self.setup.hardware.autocast():
            return self.setup.explainer(self.setup.body, images, targets)

    def _judged(self, heatmaps: Heatmaps, reference: ReferenceOutputs) -> Tensor:
        """One row per map: 1, fooled, test loss, empty."""
        heatmaps = heatmaps.detach().float()
        losses = self.penalty.test_loss(heatmaps, heatmaps if reference.maps is None else reference.maps).double()
        fooled = is_fooled(losses, self.penalty.success)
        return torch.stack([torch.ones_like(losses), fooled.double(), losses, is_empty(heatmaps).double()], 1).cpu()
