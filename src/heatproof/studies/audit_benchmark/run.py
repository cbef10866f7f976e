"""How well does the audit tell honest networks from lying ones? ROC per check and for the verdict, cost per photo.

Every network is made once (:mod:`heatproof.studies.audit_benchmark.population`) and audited once, each in a folder of
its own: what is complete is not done again, and what was stopped goes on.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heatproof.commands.audit.numbers import known, numbers
from heatproof.commands.audit.run import Audit, read_audit, run_audit
from heatproof.commands.audit.scope import network_cells, network_layout
from heatproof.commands.audit.shipped import POPULATIONS
from heatproof.commands.audit.verdict import Thresholds
from heatproof.data.photos import fit
from heatproof.data.sources import open_data
from heatproof.errors import InputError, did_you_mean
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.results.run import Run
from heatproof.results.strict import read_images
from heatproof.results.whole import write_whole
from heatproof.studies import small_families
from heatproof.studies.audit_benchmark.answers import answered, draw
from heatproof.studies.audit_benchmark.left_out import Audited, alarms, architecture, judged_by_others, widths_of
from heatproof.studies.audit_benchmark.population import (
    BACKDOORS,
    FAMILIES,
    TRIGGER,
    Member,
    Population,
    members,
)
from heatproof.studies.audit_benchmark.rates import FIVE, auc, calibrated, verdict_rates
from heatproof.studies.shared import named
from heatproof.types import Explainer, settings


@settings
class AuditBenchmark:
    """Honest and manipulated networks on CIFAR-10, audited with the same photos.

    Every network is judged by thresholds of the honest networks of other origin: no network that came of the same
    training counts.

    Args:
        data: photos to train on. ``watched``: those that choose a fooled checkpoint. ``test``: those that are audited.
        families: of the networks. ``seeds``: of each; ``copies``: honest ones of each network.
        lies: only these of the population's; empty: all; ``honest``: none.
        explainer: whose maps are audited, of those with thresholds in the package; lies are told through Grad-CAM.
        photos: audited per network.
        budget: forward passes per photo; ``photo_budget``: for the backdoored networks, whose photos are told apart.
        budgets: further ones, at which every network and photo is audited again.
        kinds: so many trainings of each kind of :mod:`~heatproof.studies.small_families`, further honest networks for
            the thresholds that are handed out, not for the tests.
        others: further ones, ``NAME=DATA``.
        place: a folder where the networks and their audits are kept for other runs too; empty: the run's own.
        limit: photos to train the small networks on, ``epochs`` often. ``steps``: of each fooling.
        seed: unused; the population has its own.
    """

    data: str = "shared:data/cifar10/train-50000.parquet"
    watched: str = "shared:data/cifar10/train"
    test: str = "shared:data/cifar10/test"
    families: tuple[str, ...] = FAMILIES
    seeds: int = 2
    copies: int = 2
    lies: tuple[str, ...] = ()
    explainer: str = "gradcam()"
    photos: int = 100
    budget: int = 49
    photo_budget: int = 100
    budgets: tuple[int, ...] = ()
    kinds: int = 0
    others: tuple[str, ...] = ()
    place: str = ""
    limit: int = 10_000
    epochs: int = 3
    steps: int = 300
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "table": "table",
        "lie": "lie",
        "number": "number",
        "count": "networks",
        "value": "AUC or rate",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        population = Population(
            self._place(run) / "networks",
            named(self.data),
            named(self.watched),
            self.limit,
            epochs=self.epochs,
            steps=self.steps,
            say=say,
        )
        everyone = members(self.families, self.seeds, self.copies, self.lies)
        found: dict[str, dict[str, Any]] = {}
        for member in everyone:
            found[member.name] = self._audited(member, population, run, hardware, say)
        rows, table = verdict_rates(everyone, found)
        rows += [row for member in everyone if member.lie in BACKDOORS for row in self._photos(member, run)]
        rows += self._budgets(everyone, population, run, hardware, say)
        draw(run, everyone, found, rows)
        honest = self._honest(everyone, found, population, run, hardware, say)
        thresholds = calibrated([own.numbers for own in honest], self._provenance(honest), widths_of(honest))
        run.write_json("thresholds.json", thresholds.plain())
        for anew in (False, True):
            left = judged_by_others(Audit(explainer=self._explainer, budget=self.budget), honest, anew=anew)
            rows, table = rows + alarms(left), table + left
        answer = answered(rows)
        for line in answer:
            say(line)
        run.write_parquet("images.parquet", table)
        summary = {"answer": answer, "rows": rows, "skipped": []}
        run.write_json("summary.json", summary)
        return summary

    def _place(self, run: Run) -> Path:
        return Path(self.place) if self.place else run.folder

    def _folder(self, run: Run, name: str, budget: int) -> Path:
        own = [] if self._explainer == Audit().explainer else [re.sub(r"\W+", "-", self.explainer).strip("-")]
        return self._place(run).joinpath("audits", *own, f"{budget}", name)

    @property
    def _explainer(self) -> Explainer:
        name = self.explainer.removesuffix("()")
        if name not in POPULATIONS:
            raise InputError(f"there are no populations of {self.explainer!r}; {did_you_mean(name, POPULATIONS)}")
        return POPULATIONS[name]

    def _honest(
        self,
        everyone: Sequence[Member],
        found: Mapping[str, dict[str, Any]],
        population: Population,
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> list[Audited]:
        """The honest networks of the population, and the further ones."""
        honest = []
        for member in everyone:
            if member.honest:
                folder, model = self._folder(run, member.name, self.budget), population.get(member)
                honest.append(Audited(member.name, architecture(member), model, folder, found[member.name]))
        for seed in range(self.kinds):
            for kind in small_families.INSIDE:
                model = small_families.trained(
                    kind, seed, self._place(run) / "networks", named(self.data), self.limit, say=say
                )
                numbers, folder = self._further(model, model.name, named(self.test), run, hardware)
                honest.append(Audited(model.name, kind, model, folder, numbers))
        for entry in self.others:
            name, _, data = entry.partition("=")
            model = load(named(name))
            numbers, folder = self._further(model, f"other-{model.name}", named(data), run, hardware)
            honest.append(Audited(entry.removeprefix("shared:"), model.name, model, folder, numbers))
        return honest

    def _provenance(self, honest: Sequence[Audited]) -> dict[str, Any]:
        sizes = Counter(str(max(own.model.input_shape)) for own in honest)
        return {
            "sizes": dict(sizes),
            "networks": [own.name for own in honest],
            "data": f"{self.photos} photos of {self.test.removeprefix('shared:')}, or of what follows a network",
            "explainer": repr(self._explainer),
            "budget": self.budget,
            "layouts": sorted({kind for own in honest if (kind := network_layout(self._explainer, own.model))}),
            "cells": sorted({kind for own in honest if (kind := network_cells(self._explainer, own.model))}),
        }

    def _audited(
        self,
        member: Member,
        population: Population,
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
        budget: int = 0,
    ) -> dict[str, Any]:
        """The network's numbers, with the values they are means of, and what is known of its making."""
        model: Classifier | None = None
        budget = budget or (self.photo_budget if member.lie in BACKDOORS else self.budget)
        for name, data in self._data(member, run).items():
            folder = self._folder(run, f"{member.name}{name}", budget)
            if not (folder / "summary.json").exists():
                model = model or population.get(member)
                say(f"auditing {folder.name} with {budget} passes per photo")
                self._audit(model, population.get(member.origin), folder, data, budget, hardware)
        folder = self._folder(run, member.name, budget)
        found = {**_read(folder), "made": population.made(member)}
        if member.lie in BACKDOORS:
            found["triggered"] = _read(self._folder(run, f"{member.name}-triggered", budget))
        return found

    def _further(
        self, model: Classifier, name: str, data: str, run: Run, hardware: Hardware
    ) -> tuple[dict[str, Any], Path]:
        """The numbers of a further honest network, and where its audit lies."""
        folder = self._folder(run, name, self.budget)
        if not (folder / "summary.json").exists():
            self._audit(model, model, folder, data, self.budget, hardware)
        return _read(folder), folder

    def _audit(
        self, model: Classifier, origin: Classifier, folder: Path, data: str, budget: int, hardware: Hardware
    ) -> None:
        settings = Audit(explainer=self._explainer, budget=budget)
        source = open_data(data, classes=model.classes, limit=self.photos)
        given = {"asked": settings, "model": model.name, "photos": self.photos}
        with Run.start(folder, command="audit", settings=given) as audit:
            nothing = Thresholds({}, None, {})
            reference = None if model.name == origin.name else origin
            run_audit(
                settings,
                model,
                source,
                audit,
                reference=reference,
                thresholds=nothing,
                draw=False,
                hardware=hardware,
            )

    def _data(self, member: Member, run: Run) -> dict[str, str]:
        found = {"": named(self.test)}
        if member.lie in BACKDOORS:
            found["-triggered"] = str(self._triggered(run))
        return found

    def _triggered(self, run: Run) -> Path:
        """The audited photos with the trigger, as files."""
        folder = self._place(run) / "triggered"
        source = open_data(named(self.test), limit=self.photos)
        if not (folder / "all.txt").exists():
            for place, image in enumerate(source.ids):
                pixels = TRIGGER(fit(source[place].image, 32)[None])[0]
                file = (folder / image).with_suffix(".png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype("uint8")).save(file)
            write_whole(folder / "all.txt", "\n".join(source.ids).encode())
        return folder

    def _photos(self, member: Member, run: Run, budget: int = 0) -> list[dict[str, Any]]:
        """AUC per photo of one backdoored network: those with the trigger against those without."""
        budget = budget or self.photo_budget
        clean, triggered = (
            read_images(self._folder(run, f"{member.name}{name}", budget)) for name in ("", "-triggered")
        )
        rows = []
        for number in ("trust", "pooled", "agreement", "jump", "unseen", "contrast", "softmax_contrast"):
            bad = 1.0 if number in ("jump", "unseen") else -1.0
            lies, honest = (bad * part[number].drop_nulls().to_numpy() for part in (triggered, clean))
            rows.append(
                {
                    "table": "photos with a trigger against photos without",
                    "lie": member.name,
                    "number": number,
                    "count": len(lies) + len(honest),
                    "value": auc(lies, honest),
                    "budget": budget,
                }
            )
        return rows

    def _budgets(
        self,
        everyone: Sequence[Member],
        population: Population,
        run: Run,
        hardware: Hardware,
        say: Callable[[str], None],
    ) -> list[dict[str, Any]]:
        """The AUC of the verdict's score and of the photos' trust with other numbers of questions."""
        rows = []
        for budget in self.budgets:
            found = {m.name: self._audited(m, population, run, hardware, say, budget) for m in everyone}
            again, _ = verdict_rates(everyone, found)
            rows += [
                {**row, "table": f"{row['table']}, by budget", "budget": budget}
                for row in again
                if row["number"] == "score" and row["lie"] == FIVE and row["table"].startswith("AUC")
            ]
            photos = [row for m in everyone if m.lie in BACKDOORS for row in self._photos(m, run, budget)]
            rows += [{**row, "table": "trust by budget"} for row in photos if row["number"] == "trust"]
        return rows


def _read(folder: Path) -> dict[str, Any]:
    table, tensors = read_audit(folder)
    values = {name: known(given) for name, given in numbers(table, tensors)}
    means = {name: float(np.mean(given)) if given else None for name, given in values.items()}
    return {"values": values, "numbers": means, "trust": table["trust"].drop_nulls().to_list()}
