"""Which explanation can be trusted, at which price? Explainers, alone and under each defence, on real networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from heatproof.attacks import corruption
from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.sources import limited, part_source
from heatproof.errors import InputError, SpecError, did_you_mean
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.processes import Processes
from heatproof.results.run import Run
from heatproof.results.table import interval
from heatproof.studies.board import pace
from heatproof.studies.board.columns import BY_NAME, COLUMNS
from heatproof.studies.board.lies import LIES, Fooling, Lies
from heatproof.studies.board.measure import cell
from heatproof.studies.board.networks import DEFAULT, NETWORKS, Row, rows_of
from heatproof.studies.board.ranks import ROW, Known, answers, board, cells_of, columns_table, draw, filled, known, wide
from heatproof.studies.board.submission import SUBMITTED, Submission, told, verdicts
from heatproof.studies.board.unit import Budgets, Opened, Unit, digits_of, key_of, plain_letters
from heatproof.studies.shared import named
from heatproof.types import settings

SMALL = 64
"""Pixels of a side up to which a network counts as small."""
NAMES = tuple(column.name for column in COLUMNS)
MEASURED = "measured.parquet"
TOLD = (
    {
        "column": "mean_rank",
        "help": "Mean rank over the columns that decide and over the seeds, within the network; 1 is the best.",
    },
    {"column": "defence", "help": "What stands around the explainer; none: nothing."},
    {"column": "settings", "help": "The explainer with its defence, as the command line takes it."},
)
COUNTS = (
    *("photos", "large_photos", "seeds", "copies", "steps", "removals", "watched"),
    *("lie_steps", "large_lie_steps", "lie_photos", "lie_batch"),
)
"""Settings that are whole numbers from 1 on."""


@settings
class Board:
    """Explainers and defences against columns: moved, fooled, certified, faithful, sane, passes; on real networks.

    Maps are made once for each network, row and seed, and every column reads them. Every cell is a part of the run,
    so that what was stopped goes on, and processes share the rows.

    Args:
        networks: of :data:`~heatproof.studies.board.networks.NETWORKS`; with ``add`` those that are handed in.
        vit: the vision transformer as ``--model`` takes it; empty: it is left out, and said.
        explainers: names of plain explainers; none: all.
        defences: their names, ``none`` for explainers that stand alone; none: all.
        measure: columns; none: all.
        photos: of networks up to 64 pixels.
        large_photos: of the others.
        seeds: of attacks, noise, random weights and foolings.
        copies: noisy copies of a defence that draws some.
        epsilon, steps: of the attacks on the map, in l-infinity.
        removals: squares of AOPC and steps of deletion.
        lies: that networks are fooled by; ``no``: none.
        lie_steps, lie_photos, lie_batch: of each fooling.
        large_lie_steps: of networks above 64 pixels.
        budget: accuracy that a fooling may cost, a share.
        watched: labelled photos that hold it.
        add: submissions.
        base: the run folder of a finished board, whose cells are taken where they are the same.
        seed: of the photos.
    """

    networks: tuple[str, ...] = DEFAULT
    vit: str = ""
    explainers: tuple[str, ...] = ()
    defences: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()
    photos: int = 24
    large_photos: int = 8
    seeds: int = 3
    copies: int = 8
    epsilon: float = 4 / 255
    steps: int = 5
    removals: int = 20
    lies: tuple[str, ...] = ("location",)
    lie_steps: int = 800
    large_lie_steps: int = 100
    lie_photos: int = 8000
    lie_batch: int = 64
    budget: float = 0.01
    watched: int = 300
    add: tuple[Submission, ...] = ()
    base: str = ""
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "network": "network",
        "explainer": "explainer",
        "defence": "defence",
        "mean_rank": "mean rank",
        "noise": "noise",
        "naive": "naive",
        "pgd": "knowing",
        "fooled": "fooled",
        "aopc": "AOPC",
        "randomised": "randomised",
        "passes": "passes",
    }
    presets = {  # noqa: RUF012
        "demo": {
            "networks": ("demo",),
            "photos": 6,
            "seeds": 2,
            "copies": 2,
            "steps": 2,
            "removals": 4,
            "lie_steps": 4,
            "lie_photos": 64,
            "lie_batch": 8,
            "watched": 32,
        },
    }

    def __post_init__(self) -> None:
        every = [row for kind in ("small", "transformer") for row in rows_of(kind, max(self.copies, 1))]
        for given, kept, what in (
            (self.networks, NETWORKS, "network"),
            (self.explainers, [row.explainer for row in every], "explainer"),
            (self.defences, [row.defence for row in every], "defence"),
            (self.measure, NAMES, "column"),
            (self.lies, (*LIES, "no"), "lie"),
        ):
            for name in given:
                if name not in kept:
                    raise InputError(f"the board has no {what} {name!r}; {did_you_mean(name, dict.fromkeys(kept))}")
        for name in COUNTS:
            if vars(self)[name] < 1:
                raise InputError(f"the board needs {name} of at least 1, got {vars(self)[name]}")
        if not self.networks:
            raise InputError(f"the board needs at least one network of {', '.join(NETWORKS)}")
        names = [submission.name for submission in self.add]
        for submission in self.add:
            submission.held(self.epsilon)
            if submission.name in {*NETWORKS, *(row.explainer for row in every)} or names.count(submission.name) > 1:
                raise InputError(f"a row of the board has the name {submission.name!r} already; choose another")

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that are measured."""
        return self.measure or NAMES

    @property
    def fooling(self) -> Fooling:
        lies = tuple(lie for lie in self.lies if lie != "no")
        steps = self.lie_steps, self.large_lie_steps
        return Fooling(lies, *steps, self.lie_batch, self.lie_photos, self.watched, self.budget)

    @property
    def budgets(self) -> Budgets:
        return Budgets(epsilon=self.epsilon, steps=self.steps, removals=self.removals)

    def __call__(
        self,
        run: Run,
        *,
        hardware: Hardware = Hardware(),
        processes: Processes = Processes(),
        say: Callable[[str], None] = print,
    ) -> dict[str, Any]:
        opened = [self._opened(name, hardware) for name in self._networks()]
        lies = Lies(run, self.fooling, key_of, say)
        units = [unit for one in opened for unit in self._units(one, lies, run, hardware)]
        if not units:
            raise InputError("no row of the board is left: no explainer has all of the defences that were named")
        if (base := self._base()) is not None:
            for unit in units[processes.index :: processes.count]:
                self._take(run, unit, base)
            processes.wait()
        waiting = [unit for unit in units if self._missing(run, unit)]
        self._held_ready(run, waiting)
        if processes.index == 0 and any(len(unit.images) >= pace.FEWEST for unit in waiting):
            say(pace.told(waiting, self.asked, self.seeds, processes.count))
        # first, since all rows of a network share them
        lied = {
            unit.opened.key for unit in waiting if "fooled" in {column for column, _, _ in self._missing(run, unit)}
        }
        shared = [(one, seed) for one in opened if one.key in lied for seed in range(self.seeds)]
        for one, seed in shared[processes.index :: processes.count]:
            lies.through_gradcam(one, seed)
        processes.wait()
        for place in range(processes.index, len(units), processes.count):
            self._fill(run, units[place])
            say(f"{place + 1} of {len(units)}: {units[place].opened.name}, {units[place].row.text}")
        processes.wait()
        if processes.index:
            return {}
        return self._finish(run, opened, units)

    def _networks(self) -> list[str]:
        """Those that are asked for and can be had."""
        names = self.networks
        if self.add and names == DEFAULT:
            names = tuple(dict.fromkeys(submission.network for submission in self.add))
        missing = [name for name in names if not (NETWORKS[name].model or self.vit)]
        found = [name for name in names if name not in missing]
        if not found:
            raise InputError("the vision transformer has to be named: --set vit=FILE.py:vit@vit.safetensors")
        return found

    def _opened(self, name: str, hardware: Hardware) -> Opened:
        network = NETWORKS[name]
        model = hardware.host(load(named(network.model or self.vit, "vit")))
        model.name = name
        source = open_photos(model, named(network.data), seed=self.seed)
        watched, rest = part_source(source, 0.5, self.seed)
        small = max(model.input_shape) <= SMALL
        shown = limited(rest, self.photos if small else self.large_photos, self.seed)
        found = list(batches(shown, model.preprocessing, 64))
        images = hardware.bring(torch.cat([batch.images for batch in found]))
        ids = [image for batch in found for image in batch.ids]
        return Opened(name, name, network, model, ids, images, limited(watched, self.watched), small, shown)

    def _units(self, opened: Opened, lies: Lies, run: Run, hardware: Hardware) -> Iterator[Unit]:
        for row in rows_of(opened.network.kind, self.copies):
            wanted = not self.explainers or row.explainer in self.explainers
            if wanted and (not self.defences or row.defence in self.defences):
                yield Unit(run, opened, row, self.budgets, lies, hardware)
        for submission in self.add:
            if submission.network == opened.name:
                own = replace(opened, model=submission.load(opened.model), key=f"{opened.key}-{digits_of(submission)}")
                row = Row(submission.name, SUBMITTED, submission.explainer)
                yield Unit(run, own, row, self.budgets, lies, hardware, submission.held(self.epsilon))

    def _parts(self, unit: Unit) -> Iterator[tuple[str, int, str]]:
        """Column, seed, and the name of the part; what no seed can change is measured once."""
        name = plain_letters(f"{unit.opened.key}-{unit.row.explainer}-{unit.row.defence}")
        for column in self.asked:
            drawn = (BY_NAME[column].drawn or unit.noisy) and column != "passes"
            for seed in range(self.seeds if drawn else 1):
                yield column, seed, f"{name}-{column}-{seed}"

    def _missing(self, run: Run, unit: Unit) -> list[tuple[str, int, str]]:
        return [part for part in self._parts(unit) if not run.has_part(part[2])]

    def _held_ready(self, run: Run, waiting: Sequence[Unit]) -> None:
        """Before hours are spent: what a column needs is there."""
        missing = {column for unit in waiting for column, _, _ in self._missing(run, unit)}
        if "corruption" in missing and not corruption.installed():
            others = " ".join(f"--set measure={name}" for name in self.asked if name != "corruption")
            raise SpecError(
                "the board's column 'corruption' needs a package that is not installed; "
                f"pip install heatproof[corruptions], or do without it: {others}"
            )

    def _fill(self, run: Run, unit: Unit) -> None:
        for column, seed, part in self._missing(run, unit):
            run.append_rows(part, cell(unit, column, seed))

    def _take(self, run: Run, unit: Unit, base: pl.DataFrame) -> None:
        """What a finished board has measured already: the same maps of the same photos, by the same column."""
        own = {"explainer": unit.row.explainer, "defence": unit.row.defence}
        for column, seed, part in self._missing(run, unit):
            same = pl.col("key") == unit.digits(column), pl.col("seed") == seed, pl.col("column") == column
            rows = base.filter(*same).to_dicts()
            if rows:
                run.append_rows(part, [{**row, **own} for row in rows])

    def _base(self) -> pl.DataFrame | None:
        if not self.base:
            return None
        file = Path(self.base) / MEASURED
        if not file.is_file():
            raise InputError(f"{self.base} is no finished board: it has no {MEASURED}")
        return pl.read_parquet(file)

    def _finish(self, run: Run, opened: Sequence[Opened], units: Sequence[Unit]) -> dict[str, Any]:
        """The tables, the ranks and the answer, from all parts."""
        models = [model_record(one.model) for one in opened]
        first = opened[0]
        run.describe(model=models, data={**data_record(first.shown), "held_out": data_record(first.watched)})
        table = run.merge((*ROW, "column", "seed", "image"))
        run.write_parquet(MEASURED, table)
        every = filled(table, range(self.seeds))
        cells = cells_of(every)
        run.write_parquet("cells.parquet", cells)
        run.write_parquet("images.parquet", wide(every))
        knowledge = [one for one in known(every, cells) if one.column.name in self.asked]
        own = {unit.row.explainer: unit.opened for unit in units if unit.row.defence == SUBMITTED}
        accuracy = {name: top1(one) for name, one in {**{one.name: one for one in opened}, **own}.items()}
        rows = board(every, cells, knowledge, accuracy)
        judged = {one.name: verdicts(one, _row_of(one, rows)) for one in self.add}
        answer = [line for one in self.add for line in told(one, judged[one.name])]
        answer += answers(rows, knowledge, self.seeds)
        left_out = sorted(set(self.networks) - {one.name for one in opened}) if not self.add else []
        answer += [f"Not on this board: {name}, for which --set {name}=... names no weights." for name in left_out]
        figures = [self._drawn(run, cells, knowledge, one.name) for one in opened]
        summary = {
            "answer": answer,
            "rows": rows,
            "ranks": columns_table(knowledge),
            "columns": [
                *TOLD,
                *({"column": one.column.name, "help": one.column.help(one.sentence())} for one in knowledge),
            ],
            "worst": {"column": "pgd" if "pgd" in self.asked else self.asked[0], "descending": False},
            "first_figure": next((figure for figure in figures if figure), None),
            "claims": [{"submission": name, **one} for name, found in judged.items() for one in found],
            "refused": [name for name, found in judged.items() if not all(one["met"] for one in found)],
            "skipped": [entry for one in opened for entry in one.watched.skipped],
        }
        run.write_json("summary.json", summary)
        return summary

    def _drawn(self, run: Run, cells: pl.DataFrame, knowledge: Sequence[Known], network: str) -> str | None:
        path = run.path(f"figures/board-{network}.png")
        path.parent.mkdir(exist_ok=True)
        drawn = draw(cells, knowledge, network, path)
        return None if drawn is None else drawn.stem


def _row_of(submission: Submission, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if (row["explainer"], row["defence"]) == (submission.name, SUBMITTED))


def top1(opened: Opened) -> dict[str, float | None]:
    """Accuracy on the photos that hold it, with its interval."""
    right = list[float]()
    with torch.no_grad():
        for batch in batches(opened.watched, opened.model.preprocessing, 32):
            parameter = next(opened.model.parameters())
            predicted = opened.model(batch.images.to(parameter.device)).argmax(1).cpu()
            right += (predicted == batch.labels).double().tolist()
    found = interval(right)
    return {"top1": found.value, "top1_low": found.low, "top1_high": found.high}
