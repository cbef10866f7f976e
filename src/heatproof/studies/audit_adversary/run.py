"""What does a lie cost that the audit does not see? Attackers who know the audit, and the audit's verdict on each."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl
import torch
from safetensors.torch import load_file

from heatproof.commands.audit.run import Audit, run_audit
from heatproof.data.sources import Source, open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.reading import read_json
from heatproof.results.run import Run
from heatproof.results.whole import write_json
from heatproof.studies.audit_adversary.attackers import ATTACKERS, BATCH, attack, shown_rate
from heatproof.studies.shared import named
from heatproof.training.data import feed_photos
from heatproof.training.feeds import TensorFeed
from heatproof.types import settings

HONEST = "honest"
HOW: tuple[str, ...] = ("none", "clean", "self")
"""References: none, the network as it was, and the checkpoint's own repair."""
NUMBERS = (
    "all_classes",
    "predicted_class",
    "predicted_worst",
    "own_witness",
    "hidden_place",
    "equivariance",
    "share",
    "self_spearman",
)
"""Beside each verdict."""


@settings
class AuditAdversary:
    """Attackers who know the audit: what each lie costs, how often it shows, and what the audit says.

    Each network is trained once and audited once for every reference, in folders of their own: what is complete is not
    done again, and what was stopped goes on.

    Args:
        network: that is manipulated; it must end in average pooling and a linear layer.
        layer: it is trained from here on.
        attackers: of those in :mod:`heatproof.studies.audit_adversary.attackers`; ``honest`` is the network itself.
        seeds: networks of each attacker, from ``first`` on.
        first: see ``seeds``.
        references: ``none``, ``clean`` (the network as it was), ``self`` (the checkpoint's own repair).
        data: photos to train on, at most ``limit``.
        test: photos that are audited (``photos``) and by which accuracy and lie are measured (``judged``).
        photos: see ``test``.
        judged: see ``test``.
        limit: see ``data``.
        budget: forward passes per photo.
        steps: of each attacker, instead of its own; 0: its own.
        seed: unused; the attackers have their own.
    """

    network: str = "shared:weights/zoo.py:resnet20"
    layer: str = "layer3"
    attackers: tuple[str, ...] = (HONEST, *ATTACKERS)
    seeds: int = 2
    first: int = 0
    references: tuple[str, ...] = HOW
    data: str = "shared:data/cifar10/train-50000.parquet"
    test: str = "shared:data/cifar10/test"
    photos: int = 60
    judged: int = 1000
    limit: int = 1500
    budget: int = 49
    steps: int = 0
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "attacker": "attacker",
        "reference": "reference",
        "lost": "accuracy lost",
        "shown": "lie shows",
        "verdict": "verdict",
        "speaks": "because of",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        for given, known in ((self.attackers, (HONEST, *ATTACKERS)), (self.references, HOW)):
            for name in given:
                if name not in known:
                    raise InputError(f"the study has no {name!r}; {did_you_mean(name, known)}")
        clean = hardware.host(load(named(self.network)))
        rows = []
        for name in self.attackers:
            for seed in range(self.first, self.first + (1 if name == HONEST else self.seeds)):
                made, price = self._made(name, seed, clean, run, say)
                rows += [
                    {**price, **self._audited(name, seed, made, clean, reference, run, hardware, say)}
                    for reference in self.references
                ]
        table = pl.DataFrame([{**row, "image": f"{row['attacker']} {row['seed']} {row['reference']}"} for row in rows])
        run.write_parquet("images.parquet", table)
        summary = {"answer": answered(rows), "rows": rows, "skipped": []}
        run.write_json("summary.json", summary)
        return summary

    def _made(
        self, name: str, seed: int, clean: Classifier, run: Run, say: Callable[[str], None]
    ) -> tuple[Classifier, dict[str, Any]]:
        """The attacker's network, trained first where it is not there, and what it cost."""
        price: dict[str, Any] = {"attacker": name, "seed": seed, "lost": 0.0, "shown": 0.0}
        if name == HONEST:
            return clean, price
        folder = f"networks/{name}-{seed}"
        attacker = ATTACKERS[name]
        if self.steps:
            attacker = replace(attacker, steps=self.steps)
        file, record = run.path(f"{folder}/model.safetensors"), run.path(f"{folder}/made.json")
        if not record.exists():
            say(f"training {name}, seed {seed}")
            photos = _photos(open_data(named(self.data), classes=clean.classes, limit=self.limit), clean)
            state = FileCheckpoint(run.path(f"scratch/{name}-{seed}.pt"))
            made = attack(clean, attacker, photos, self.layer, seed, state, say)
            run.write_tensors(f"{folder}/model.safetensors", made.network.state_dict())
            judged = _photos(open_data(named(self.test), classes=clean.classes, limit=self.judged), clean)
            fed = next(iter(judged.ordered(len(judged))))
            images, labels = fed.images, fed.labels
            before, after = (_predicted(model, images) for model in (clean, made))
            accuracy = [float((found == labels).float().mean()) for found in (before, after)]
            shown = shown_rate(attacker, made, images, before)
            write_json(record, {"lost": accuracy[0] - accuracy[1], "shown": shown})
        made = copy.deepcopy(clean)
        made.network.load_state_dict(load_file(file))
        made.name = f"{name}-{seed}"
        return made.eval(), {**price, **(read_json(record) or {})}

    def _audited(
        self,
        name: str,
        seed: int,
        made: Classifier,
        clean: Classifier,
        reference: str,
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        asked = Audit(budget=self.budget)
        folder = run.path(f"audits/{name}-{seed}-{reference}")
        source = open_data(named(self.test), classes=clean.classes, limit=self.photos)
        given: dict[str, Classifier | Literal["self"] | None] = {"none": None, "clean": clean, "self": "self"}
        with Run.start(folder, command="audit", settings={"asked": asked, "reference": reference}) as audit:
            if not audit.done:
                say(f"auditing {name}, seed {seed}, reference: {reference}")
                run_audit(asked, made, source, audit, reference=given[reference], draw=False, hardware=hardware)
        found = read_json(folder / "summary.json") or {}
        numbers = {row["number"]: row["value"] for row in found["rows"]}
        return {
            "reference": reference,
            "verdict": found["verdict"],
            "score": found["score"],
            "speaks": ", ".join(found["speaks"]) if found["verdict"] != HONEST else "",
            **{number: numbers.get(number) for number in NUMBERS},
        }


def _photos(source: Source, model: Classifier) -> TensorFeed:
    parts = list(feed_photos(source, model.preprocessing).ordered(BATCH))
    return TensorFeed(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _predicted(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(BATCH)])


def answered(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Who is seen, and what those pay who are not."""
    sentences = []
    for reference in dict.fromkeys(row["reference"] for row in rows):
        own = [row for row in rows if row["reference"] == reference and row["attacker"] != HONEST]
        seen = [row for row in own if row["verdict"] in ("manipulated", "doubtful")]
        passed = ", ".join(
            f"{row['attacker']} ({100 * row['lost']:.1f} points, shows on {row['shown']:.0%})"
            for row in own
            if row not in seen
        )
        line = f"Reference {reference}: {len(seen)} of {len(own)} attackers' networks are doubtful or not supported"
        sentences.append(f"{line}{'; not seen: ' + passed if passed else ''}.")
    return sentences
