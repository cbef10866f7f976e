"""How well does the audit tell honest networks from lying ones? ROC per check and for the verdict, cost per photo.

Every network is made once (:mod:`heatproof.studies.audit_benchmark.population`) and audited once, each in a folder of
its own: what is complete is not done again, and what was stopped goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heatproof.commands.audit.run import Audit, numbers, read_audit, run_audit
from heatproof.commands.audit.verdict import MANIPULATED, NUMBERS, Thresholds, calibrate, conclude, judge, score
from heatproof.data.photos import fit
from heatproof.data.sources import open_data
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.report.plots import curves
from heatproof.results.run import Run
from heatproof.results.strict import read_images
from heatproof.results.table import interval
from heatproof.results.whole import write_whole
from heatproof.studies.audit_benchmark.population import (
    BACKDOORS,
    EDITS,
    FAMILIES,
    HEO,
    TRIGGER,
    Member,
    Population,
    members,
)
from heatproof.studies.shared import named
from heatproof.types import settings

WITHOUT, WITH = "without a reference", "with a reference"
FIVE = "Heo's four and Viering's edit"


@settings
class AuditBenchmark:
    """Honest and manipulated networks on CIFAR-10, audited with the same photos.

    Every network is judged by thresholds of the honest networks of other origin: no network that came of the same
    training counts.

    Args:
        data: photos to train on. ``watched``: those that choose a fooled checkpoint. ``test``: those that are audited.
        families: of the networks. ``seeds``: of each; ``copies``: honest ones of each network.
        lies: only these of the population's; empty: all.
        photos: audited per network.
        budget: forward passes per photo; ``photo_budget``: for the backdoored networks, whose photos are told apart.
        budgets: further ones, at which every network and photo is audited again.
        others: further honest networks, ``NAME=DATA``, for the thresholds that are handed out, not for the tests.
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
    photos: int = 100
    budget: int = 45
    photo_budget: int = 100
    budgets: tuple[int, ...] = ()
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
        rows, table = _models(everyone, found)
        rows += [row for member in everyone if member.lie in BACKDOORS for row in self._photos(member, run)]
        rows += self._budgets(everyone, population, run, hardware, say)
        _draw(run, everyone, found, rows)
        honest = [member for member in everyone if member.honest]
        own = [found[member.name] for member in honest] + [self._other(entry, run, hardware) for entry in self.others]
        thresholds = _calibrated(own, self._provenance(honest))
        run.write_json("thresholds.json", thresholds.plain())
        answer = _answer(rows)
        for line in answer:
            say(line)
        run.write_parquet("images.parquet", table)
        summary = {"answer": answer, "rows": rows, "skipped": []}
        run.write_json("summary.json", summary)
        return summary

    def _place(self, run: Run) -> Path:
        return Path(self.place) if self.place else run.folder

    def _folder(self, run: Run, name: str, budget: int) -> Path:
        return self._place(run) / "audits" / f"{budget}" / name

    def _provenance(self, honest: Sequence[Member]) -> dict[str, Any]:
        return {
            "networks": [member.name for member in honest] + [entry.removeprefix("shared:") for entry in self.others],
            "data": f"{self.photos} photos of {self.test.removeprefix('shared:')}, or of what follows a network",
            "explainer": repr(Audit().explainer),
            "budget": self.budget,
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

    def _other(self, entry: str, run: Run, hardware: Hardware) -> dict[str, Any]:
        """The numbers of a further honest network."""
        name, _, data = entry.partition("=")
        model = load(named(name))
        folder = self._folder(run, f"other-{model.name}", self.budget)
        if not (folder / "summary.json").exists():
            self._audit(model, model, folder, named(data), self.budget, hardware)
        return _read(folder)

    def _audit(
        self, model: Classifier, origin: Classifier, folder: Path, data: str, budget: int, hardware: Hardware
    ) -> None:
        asked = Audit(budget=budget)
        source = open_data(data, classes=model.classes, limit=self.photos)
        given = {"asked": asked, "model": model.name, "photos": self.photos}
        with Run.start(folder, command="audit", settings=given) as audit:
            if not audit.done:
                nothing = Thresholds({}, None, {})
                reference = None if model.name == origin.name else origin
                run_audit(
                    asked, model, source, audit, reference=reference, thresholds=nothing, draw=False, hardware=hardware
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
            told, _ = _models(everyone, found)
            rows += [
                {**row, "table": f"{row['table']}, by budget", "budget": budget}
                for row in told
                if row["number"] == "score" and row["lie"] == FIVE and row["table"].startswith("AUC")
            ]
            photos = [row for m in everyone if m.lie in BACKDOORS for row in self._photos(m, run, budget)]
            rows += [{**row, "table": "trust by budget"} for row in photos if row["number"] == "trust"]
        return rows


def auc(lies: Sequence[float] | np.ndarray, honest: Sequence[float] | np.ndarray) -> float:
    """Area under the ROC: how often a lie has the higher number, ties counting half.

    >>> auc([2.0, 3.0], [1.0, 2.0])
    0.875
    """
    a, b = np.asarray(lies, float)[:, None], np.asarray(honest, float)[None]
    return float(((a > b) + 0.5 * (a == b)).mean()) if a.size and b.size else float("nan")


def _read(folder: Path) -> dict[str, Any]:
    table, kept = read_audit(folder)
    values = {name: [v for v in given if v is not None] for name, given in numbers(table, kept).items()}
    means = {name: float(np.mean(given)) if given else None for name, given in values.items()}
    return {"values": values, "numbers": means, "trust": table["trust"].drop_nulls().to_list()}


def _calibrated(honest: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> Thresholds:
    photos = [value for own in honest for value in own["trust"]]
    return calibrate([own["numbers"] for own in honest], photos, provenance)


def _judged(found: Mapping[str, Any], thresholds: Thresholds, *, reference: bool) -> tuple[str, float, list[str], Any]:
    checks = [
        judge(name, interval(found["values"].get(name) or [float("nan")]), thresholds)
        for name, about in NUMBERS.items()
        if reference or about.check != "reference"
    ]
    verdict, speaks = conclude(checks)
    deviations = {check.number: check.deviations for check in checks}
    return verdict, score(checks), [check.number for check in speaks], deviations


def _origin(member: Member) -> str:
    """Whose training a network comes of; the residual networks come trained, whatever the seed."""
    return member.family if member.family.startswith("resnet") else member.origin.name


def _models(
    everyone: Sequence[Member], found: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Per number and for the verdict: AUC and rates, each network judged by thresholds of other origin."""
    table = []
    for origin in dict.fromkeys(map(_origin, everyone)):
        thresholds = _calibrated([found[m.name] for m in everyone if m.honest and _origin(m) != origin], {})
        for member in everyone:
            if _origin(member) != origin:
                continue
            own = found[member.name]
            for how in (WITHOUT, WITH):
                verdict, worst, speaks, deviations = _judged(own, thresholds, reference=how == WITH)
                own[how] = {"verdict": verdict, "score": worst, "deviations": deviations}
                if "triggered" in own:
                    own[how]["triggered"] = _judged(own["triggered"], thresholds, reference=how == WITH)[0]
                row = {"image": f"{member.name} {how}", "model": member.name, "lie": member.lie or "as trained"}
                row |= {"honest": member.honest, "how": how, "verdict": verdict, "score": worst}
                row |= {"speaks": ", ".join(speaks), "fsr": own["made"].get("fsr")}
                table.append({**row, "accuracy": own["made"].get("accuracy"), **own["numbers"]})
    honest = [m for m in everyone if m.honest]
    rows: list[dict[str, Any]] = []
    for how in (WITHOUT, WITH):
        groups = {FIVE: [*HEO, *EDITS]} | {lie: [lie] for lie in (*HEO, *EDITS, *BACKDOORS)}
        clean = [found[m.name][how] for m in honest if how == WITHOUT or m.lie]
        if not clean:  # with a reference: there are no honest copies
            continue
        rates = [own["verdict"] == MANIPULATED for own in clean]
        rows.append(_row(f"called manipulated, {how}", "honest", "verdict", rates))
        rows.append(
            _row(f"called doubtful or worse, {how}", "honest", "verdict", [o["verdict"] != "honest" for o in clean])
        )
        for group, lies in groups.items():
            own = [found[m.name][how] for m in everyone if m.lie in lies]
            if not own:
                continue
            rows.append(
                _row(f"called manipulated, {how}", group, "verdict", [o["verdict"] == MANIPULATED for o in own])
            )
            called = [o["triggered"] == MANIPULATED for o in own if "triggered" in o]
            if called:
                rows.append(_row(f"called manipulated, photos with a trigger, {how}", group, "verdict", called))
            rows.append(_auc_row(how, group, "score", [o["score"] for o in own], [o["score"] for o in clean]))
        lies = [m for m in everyone if m.lie in (*HEO, *EDITS)]
        for number in NUMBERS:
            bad, good = (
                [v for o in part if (v := o["deviations"].get(number)) is not None]
                for part in ([found[m.name][how] for m in lies], clean)
            )
            if bad and good:
                rows.append(_auc_row(how, FIVE, number, bad, good))
    return rows, table


def _row(table: str, lie: str, number: str, hits: Sequence[bool]) -> dict[str, Any]:
    return {"table": table, "lie": lie, "number": number, "count": len(hits), "value": float(np.mean(hits))}


def _auc_row(how: str, lie: str, number: str, lies: Sequence[float], honest: Sequence[float]) -> dict[str, Any]:
    return {
        "table": f"AUC of networks, {how}",
        "lie": lie,
        "number": number,
        "count": len(lies) + len(honest),
        "value": auc(lies, honest),
    }


def _draw(
    run: Run, everyone: Sequence[Member], found: Mapping[str, Mapping[str, Any]], rows: Sequence[dict[str, Any]]
) -> None:
    honest = [m for m in everyone if m.honest]
    lies = [m for m in everyone if m.lie in (*HEO, *EDITS)]
    series = {}
    for number in ("score", "all_classes", "share", "frame", "likeness", "contrast", "mosaic", "mosaic_swap"):
        a, b = (
            np.array(
                [
                    own["score"] if number == "score" else own["deviations"].get(number) or 0.0
                    for m in part
                    for own in [found[m.name][WITHOUT]]
                ]
            )
            for part in (lies, honest)
        )
        series["verdict" if number == "score" else number] = roc(a, b)
    curves(
        series,
        run.path("figures/roc.png"),
        xlabel="honest networks called lying",
        ylabel="lying networks found",
        ylim=(0, 1.02),
        title="Heo's four foolings and Viering's edit",
    )
    tables = {"networks": f"AUC of networks, {WITHOUT}, by budget", "photos with a trigger": "trust by budget"}
    lines = {}
    for name, wanted in tables.items():
        own = [row for row in rows if row["table"] == wanted]
        budgets = sorted({row["budget"] for row in own})
        each = [[row["value"] for row in own if row["budget"] == budget] for budget in budgets]
        if budgets:
            lines[name] = (budgets, [float(np.mean(values)) for values in each])
    if lines:
        curves(lines, run.path("figures/budget.png"), xlabel="forward passes per photo", ylabel="AUC (mean)")


def roc(lies: np.ndarray, honest: np.ndarray) -> tuple[list[float], list[float]]:
    """False and true positive rates as the threshold falls.

    >>> roc(np.array([2.0]), np.array([1.0]))
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    levels = sorted({*lies.tolist(), *honest.tolist()}, reverse=True)
    return [0.0, *(float((honest >= x).mean()) for x in levels)], [0.0, *(float((lies >= x).mean()) for x in levels)]


def _answer(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    def value(table: str, lie: str, number: str) -> float:
        return next(r["value"] for r in rows if (r["table"], r["lie"], r["number"]) == (table, lie, number))

    group, told = FIVE, []
    for how in (WITHOUT, WITH):
        if not any(r["lie"] == group and r["table"] == f"AUC of networks, {how}" for r in rows):
            continue
        area = value(f"AUC of networks, {how}", group, "score")
        found, false = (value(f"called manipulated, {how}", lie, "verdict") for lie in (group, "honest"))
        line = f"{how.capitalize()}: {group}, AUC {area:.3f}; called manipulated {found:.0%} of them and {false:.0%}"
        told += [f"{line} of the honest networks."]
    photos = [r["value"] for r in rows if r["table"].startswith("photos with") and r["number"] == "trust"]
    if photos:
        told.append(
            f"Photos with a trigger against photos without, {len(photos)} backdoored networks: AUC "
            f"{np.mean(photos):.3f} on average, {min(photos):.3f} at worst."
        )
    return told
