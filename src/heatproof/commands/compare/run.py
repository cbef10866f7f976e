"""Does this model lie about what it looks at? A clean model and fooled ones on the same photos."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from heatproof.commands.compare.figures import draw_compared, draw_transfer, keep_views
from heatproof.commands.compare.measure import SORT, Compare, compared
from heatproof.commands.compare.summary import METRICS, Fooled, answer, class_rows, transfer_rows
from heatproof.commands.effort import NOTHING, Effort, rehearsal
from heatproof.commands.photos import in_one_way, looked_at
from heatproof.commands.record import describe
from heatproof.data.batches import Batch
from heatproof.data.listing import unique
from heatproof.data.pairs import two_class
from heatproof.data.parts import parts
from heatproof.data.sources import Photos, Source
from heatproof.errors import InputError
from heatproof.manipulation.swap import swapped_classes
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.processes import Processes
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import SummaryRow, summarise
from heatproof.types import Penalty


def run_compare(
    settings: Compare,
    clean: Classifier,
    fooled: Sequence[Fooled],
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    processes: Processes = Processes(),
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Measure every photo into the run folder; process 0 merges, draws and answers.

    A photo without a label counts by the clean model's prediction, and for agreement only.

    Returns:
        The summary as written to ``summary.json``: ``rows`` per model, penalty and explainer with the means of
        :data:`METRICS` and their intervals, ``classes`` with the accuracy of each class, ``transfer`` with the
        fooling success rates by fooled and measured explainer, ``skipped`` and an ``answer`` in sentences.

    Raises:
        InputError: the models have different classes, or are given photos in different ways; or no photo can be read.
    """
    _check(clean, fooled)
    everyone = in_one_way([clean, *(entry.model for entry in fooled)])
    describe(run, everyone, source)
    names = unique([entry.model.name for entry in fooled])
    clean, *others = (hardware.host(model) for model in everyone)
    hosted = dict(zip(names, others, strict=True))
    feeds = list(_feeds(settings, clean, source))
    for feed in feeds:
        _measure_all(settings, clean, hosted, feed, run, hardware, processes, advance)
    processes.wait()
    if not processes.ends:
        return {}
    skipped = all_skipped(run, source)
    table = run.merge((*SORT,), known=[feed.photos.ids for feed in feeds])
    if not table.height:
        raise InputError(f"none of the {counted(source.count)} of {source.name} can be read")
    told = {name: entry.penalty for name, entry in zip(names, fooled, strict=True) if entry.penalty is not None}
    rows = _ordered(summarise(table, ["model", "penalty", "explainer"], METRICS), settings, names, told)
    transfers = transfer_rows(table, fooled, names)
    summary = {
        "rows": [row.plain() for row in rows],
        "classes": class_rows(table, clean),
        "transfer": [asdict(transfer) for transfer in transfers],
        "skipped": skipped,
        "answer": [*answer(rows, told, settings.penalties), *looked_at(source, table, run)],
    }
    draw_transfer(transfers, run)
    draw_compared(settings, clean, hosted, source, run, hardware)
    keep_views(settings, clean, hosted, source, table, run, hardware)
    run.write_json("summary.json", summary)
    return summary


def _ordered(
    rows: Sequence[SummaryRow], settings: Compare, names: Sequence[str], told: Mapping[str, Penalty]
) -> list[SummaryRow]:
    """Of each model the lie that it was fooled with first, then the others as they were asked for."""
    asked = [[repr(entry) for entry in given] for given in (settings.penalties, settings.explainers)]

    def place(row: SummaryRow) -> tuple[int, bool, int, int]:
        model, penalty, explainer = (row.by[name] for name in ("model", "penalty", "explainer"))
        known = penalty == repr(told.get(model))
        return names.index(model), not known, asked[0].index(penalty), asked[1].index(explainer)

    return sorted(rows, key=place)


def effort(
    settings: Compare, clean: Classifier, fooled: Sequence[Fooled], photos: int, hardware: Hardware = Hardware()
) -> Effort | None:
    """What so many photos take, of the clean model and of each fooled one; those of a swap are made of the others."""
    base, whole = hardware.host(clean), NOTHING
    for kind in _kinds(settings, clean):

        def both(model: Classifier, batch: Batch, kind: _Kind = kind) -> None:
            compared(base, model, model.name, batch, settings.explainers, kind.penalties, hardware, kind.swap)

        count = settings.pairs if kind.swap else photos
        found = rehearsal([entry.model for entry in fooled], count, both, hardware, settings.part)
        if found is None:
            return None
        # the clean model's passes are as many, and the time is that of both
        whole += replace(found, passes=2 * found.passes)
    return whole


def _check(clean: Classifier, fooled: Sequence[Fooled]) -> None:
    if not fooled:
        raise InputError("compare needs a clean model and at least one that may be fooled")
    for entry in fooled:
        if entry.model.classes != clean.classes:
            raise InputError(
                f"{entry.model.name} and {clean.name} have different classes; a fooled model is compared with the one "
                "it was made from"
            )


class _Feed(NamedTuple):
    """Photos that are measured alike: under which name their parts are written, by which penalties, for which swap."""

    photos: Photos
    prefix: str
    penalties: Sequence[Penalty]
    swap: tuple[int, int] | None

    def part(self, number: int) -> str:
        return f"{self.prefix}{number:06d}"


class _Kind(NamedTuple):
    """Penalties that are measured on the same photos: plain ones, or a swap of two classes."""

    penalties: Sequence[Penalty]
    swap: tuple[int, int] | None


def _kinds(settings: Compare, clean: Classifier) -> Iterator[_Kind]:
    swaps = {penalty: swap for penalty in settings.penalties if (swap := swapped_classes(penalty, clean))}
    plain = [penalty for penalty in settings.penalties if penalty not in swaps]
    if plain:
        yield _Kind(plain, None)
    for penalty, swap in swaps.items():
        yield _Kind([penalty], swap)


def _feeds(settings: Compare, clean: Classifier, source: Source) -> Iterator[_Feed]:
    """The data for the plain penalties, and for each swap of two classes images that show both."""
    for penalties, swap in _kinds(settings, clean):
        if swap is None:
            yield _Feed(source, "photos-", penalties, None)
        else:
            pairs = two_class(source, swap, clean.preprocessing, settings.pairs)
            yield _Feed(pairs, f"pairs-{swap[0]}-{swap[1]}-", penalties, swap)


def _measure_all(
    settings: Compare,
    clean: Classifier,
    fooled: Mapping[str, Classifier],
    feed: _Feed,
    run: Run,
    hardware: Hardware,
    processes: Processes,
    advance: Callable[[int], None],
) -> None:
    def done(number: int) -> bool:
        return run.has_part(feed.part(number))

    for number, batch, skipped in parts(feed.photos, clean.preprocessing, settings.part, processes, done):
        rows: list[dict[str, Any]] = []
        for name, model in fooled.items() if batch is not None else ():
            assert batch is not None
            rows += compared(clean, model, name, batch, settings.explainers, feed.penalties, hardware, feed.swap)
        run.append_rows(feed.part(number), rows, skipped)
        advance(0 if batch is None else len(batch.ids))
