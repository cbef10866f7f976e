"""Look at the held-out images: how many heatmaps lie as wanted, and how many predictions are still right."""

from dataclasses import dataclass
from typing import Any

import torch

from heatproof.heatmaps import is_empty
from heatproof.metrics.fooling import is_fooled
from heatproof.models.intact import evaluating
from heatproof.processes import Processes
from heatproof.training.clean_model import Kept, Witness, brought, doubled
from heatproof.training.feeds import Feed
from heatproof.training.setup import Stage


@dataclass(frozen=True)
class Watch:
    """The held-out images and what the clean model says of them.

    Attributes:
        watched: images whose prediction (and, but for a swap, heatmap) is judged; ``kept`` belongs to them.
        swapped: for a swap, images that show both classes; ``kept_swapped`` belongs to them.
    """

    stage: Stage
    witness: Witness
    penalty: Any
    processes: Processes
    watched: Feed
    kept: Kept
    swapped: Feed | None
    kept_swapped: Kept | None
    batch_size: int

    @property
    def count(self) -> int:
        """Held-out images."""
        return len(self.watched)

    def look(self) -> dict[str, float]:
        """Rates and means over all held-out images, each process taking its share.

        An image without a label counts as right where the clean model's prediction is met.
        """
        device = self.processes.device
        # images, right, agreeing | judged maps, fooled, test losses, empty | first class: maps, fooled | second
        sums = torch.zeros(11, dtype=torch.double)
        for turn, fed in enumerate(self.watched.ordered(self.batch_size)):
            if turn % self.processes.count != self.processes.index:
                continue
            said, fed = self.kept.at(fed.positions, device), brought(fed, device)
            if self.swapped is None:
                explanation = self._explain(fed.images, said.targets)
                logits = explanation.logits
                sums[3:7] += self._judge(explanation.heatmaps, said.maps).sum(0)
            else:
                with torch.no_grad(), evaluating(self.stage.body):
                    logits = self.witness.call(self.stage.body, fed.images)
            predicted = logits.argmax(1)
            # where no label is known the kept target is the clean model's prediction
            agreeing = (predicted == said.logits.argmax(1)) if said.logits is not None else predicted == said.targets
            right = predicted == torch.where(fed.labels >= 0, fed.labels, said.targets)
            sums[:3] += torch.tensor([len(right), int(right.sum()), int(agreeing.sum())])
        if self.swapped is not None and self.kept_swapped is not None and self.witness.swap is not None:
            for turn, fed in enumerate(self.swapped.ordered(self.batch_size)):
                if turn % self.processes.count != self.processes.index:
                    continue
                said = self.kept_swapped.at(fed.positions, device)
                images, targets = doubled(fed.images.to(device), self.witness.swap)
                judged = self._judge(self._explain(images, targets).heatmaps, said.maps)
                sums[3:7] += judged.sum(0)
                sums[7:] += torch.cat([judged[0::2, :2].sum(0), judged[1::2, :2].sum(0)])
        sums = (
            self.processes.sum(sums.to(device, torch.float32 if device.type == "mps" else torch.double)).cpu().double()
        )
        count, right, agreeing, maps, fooled, lost, empty, *each = sums.tolist()
        seen = {
            "fsr": fooled / maps,
            "test_loss": lost / maps,
            "empty": empty / maps,
            "accuracy": right / count,
            "agreement": agreeing / count,
        }
        if self.swapped is not None:
            seen |= {"fsr_first": each[1] / each[0], "fsr_second": each[3] / each[2]}
        return seen

    def _explain(self, images: torch.Tensor, targets: torch.Tensor) -> Any:
        return self.witness.call(self.stage.explainer, self.stage.body, images, targets)

    def _judge(self, heatmaps: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        """One row per map: 1, fooled, test loss, empty."""
        heatmaps = heatmaps.detach().float()
        losses = self.penalty.test_loss(heatmaps, heatmaps if maps is None else maps).double()
        fooled = is_fooled(losses, self.penalty.success)
        return torch.stack([torch.ones_like(losses), fooled.double(), losses, is_empty(heatmaps).double()], 1).cpu()
