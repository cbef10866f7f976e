"""``heatproof audit``: is this checkpoint's explanation honest? With a gate for pipelines."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import FAILED, GATE, options
from heatproof.cli.console import foretell, progress, say
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.commands.quick import QUICK_BUDGET, looking
from heatproof.errors import SpecError

if TYPE_CHECKING:
    from heatproof.results.run import Run

GATES = {"doubtful": ("doubtful", "manipulated"), "manipulated": ("manipulated",)}
"""Of ``--fail-on``, by the verdict's name in files; the page calls manipulated not supported."""
"""The verdicts at which ``--fail-on`` shuts."""
BUDGET = 180
"""Passes per photo, unless said otherwise."""


@options.grouped
def audit(
    model: Annotated[str, typer.Argument(help="The checkpoint, as --model of other commands takes it.")],
    data: Annotated[str, typer.Argument(help="Photos, class folders, a table, shards, hf:NAME, an address, or demo.")],
    work: options.Work,
    photos: options.Photos,
    out: options.Out = None,
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            help="Whose maps are audited.",
            **options.specs(catalog.EXPLAINERS, "explainer"),
        ),
    ] = "gradcam()",
    architecture: options.Architecture = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="The model that it claims to be; or self: the checkpoint itself, repaired on these photos.",
            show_default="none",
        ),
    ] = None,
    # the numbers are Audit's own, which a test holds them to: to import it would load torch
    budget: Annotated[
        int, typer.Option("--budget", help="Forward passes per photo, 20 of them for all but the witness.")
    ] = BUDGET,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="The smallest budget that can tell, often 37; and 60 photos, unless --limit says."
        ),
    ] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            "--calibrate",
            help="An honest model to fix thresholds by, on the same photos; given at least three times.",
            show_default="the package's thresholds",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", help="The thresholds.json of an earlier --calibrate.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            help="doubtful, or manipulated (not supported): exit 3 on this or worse; 1 where no verdict can be given.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="An earlier audit of the same photos: how far did the maps move?")
    ] = None,
    score: options.Score = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 20,
) -> None:
    """Judge whether a model's heatmaps can be trusted: eight checks, a verdict, and the photos that disagree most."""
    _check_flags(work, fail_on, calibrate, thresholds, quick, budget)
    limit = looking(quick, limit)
    from heatproof.answers.scored import scored
    from heatproof.commands.audit.calibration import run_calibration
    from heatproof.commands.audit.own_reference import SELF
    from heatproof.commands.audit.own_reference import passes as repairing
    from heatproof.commands.audit.plan import least_budget
    from heatproof.commands.audit.run import Audit, run_audit
    from heatproof.commands.audit.shipped import thresholds_for
    from heatproof.commands.audit.verdict import Thresholds
    from heatproof.commands.effort import planned
    from heatproof.commands.photos import open_photos
    from heatproof.processes import Processes

    if own := reference == SELF:
        work.whole("a reference of the checkpoint's own is made by one process from all photos; repair first")
    # thresholds and a reference of the checkpoint's own are made by one process
    processes = None if calibrate or own else Processes.here(work.device, work.job)
    given = None if own else reference
    load = options.opening([model, given, *(calibrate or [])], architecture)
    others = [photos(load(name)) for name in (given, *(calibrate or [])) if name is not None]
    chosen = spec.build(explainer, catalog.EXPLAINERS, "explainer")
    explained = scored(score, [chosen], [photos(load(model)), *others], alike=not calibrate)
    audited, *others = explained.models
    budget = least_budget(explained.explainers[0], audited) if quick else budget
    asked = Audit(explainer=explained.explainers[0], budget=budget, part=batch_size, seed=work.seed)
    claimed = SELF if own else others.pop(0) if given else None
    source_of = partial(open_photos, name=data, limit=limit, seed=work.seed)
    hardware = work.settled(explained.models, source_of, [asked.explainer])
    known = Thresholds.read(thresholds) if thresholds else thresholds_for(asked.explainer, audited)
    settings = {"model": model, "data": data, "asked": asked, "reference": reference, "limit": limit}
    settings |= photos.given() | explained.given()
    settings |= {"precision": hardware.precision, "calibrate": calibrate, "architecture": architecture}
    settings |= {"baseline": str(baseline) if baseline else None, "thresholds": None if calibrate else known.plain()}
    inputs = [model, data, given, thresholds, baseline, *(calibrate or [])]
    with filling(out, "audit", settings, work.seed, work.overwrite, processes, inputs=inputs) as run:
        if not run.done:
            source = source_of(audited)
            further = repairing(len(source)) if own else 0
            passes = len(source) * (1 + len(calibrate or [])) * budget + further
            foretell(run, lambda: planned(audited, passes, hardware, _of_what(budget, further)))
            shared = processes or Processes()
            total = shared.photos(len(source), batch_size) + len(source) * len(calibrate or [])
            with progress("auditing", total, run=run, sharers=shared.count) as advance:
                if calibrate:
                    known = run_calibration(asked, others, source, run, hardware=hardware, advance=advance)
                run_audit(
                    asked,
                    audited,
                    source,
                    run,
                    reference=claimed,
                    thresholds=known,
                    baseline=baseline,
                    hardware=hardware,
                    processes=shared,
                    advance=advance,
                )
    show(run, work, columns.AUDIT)
    _leave(run, fail_on)


def _of_what(budget: int, further: int) -> str:
    """What the planned passes are for."""
    repair = f", {further:,} to repair the checkpoint" if further else ""
    less = f"; --quick asks for {QUICK_BUDGET} a photo" if budget > QUICK_BUDGET else ""
    return f"{budget} for each photo{repair}{less}"


def _check_flags(
    work: options.Work,
    fail_on: str | None,
    calibrate: list[str] | None,
    thresholds: Path | None,
    quick: bool,
    budget: int,
) -> None:
    """Stop flags that contradict each other, before anything loads."""
    if fail_on is not None and fail_on not in GATES:
        raise SpecError(f"--fail-on is {' or '.join(GATES)} (which the page calls not supported), got {fail_on!r}")
    if calibrate and thresholds:
        raise SpecError("--calibrate makes thresholds and --thresholds reads them: give one of the two")
    if quick and budget != BUDGET:
        raise SpecError("--quick chooses the budget: give one of --quick and --budget")
    if calibrate:
        work.whole(
            "thresholds are made by one process; calibrate without it, and give the shards of an audit the file: "
            "--thresholds thresholds.json"
        )


def _leave(run: "Run", fail_on: str | None) -> None:
    """The exit status that the verdict asks for; process 0 of a whole run knows it."""
    if run.process or run.shard.is_share:
        return
    from heatproof.commands.audit.verdict import DOUBTFUL, HONEST, MANIPULATED, WORDS
    from heatproof.results.strict import read_summary

    verdict = read_summary(run.folder).get("verdict")
    # a gate must not pass on nothing
    if verdict not in (HONEST, DOUBTFUL, MANIPULATED):
        say(f"the exit status is {FAILED}: {WORDS.get(str(verdict), verdict)}")
        raise typer.Exit(FAILED)
    if fail_on and verdict in GATES[fail_on]:
        say(f"--fail-on {fail_on}: the heatmaps are {WORDS[verdict]}")
        raise typer.Exit(GATE)
