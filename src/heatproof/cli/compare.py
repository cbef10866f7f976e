"""``heatproof compare``: what a lie cost, and whom it deceives."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, progress
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.commands.quick import looking

if TYPE_CHECKING:
    from heatproof.commands.compare.run import Fooled
    from heatproof.types import Penalty


@options.grouped
def compare(
    clean: Annotated[str, typer.Argument(help="The model as it was.")],
    fooled: Annotated[str, typer.Argument(help="The model that may lie: a run folder of fool, or any other.")],
    data: options.Data,
    work: options.Work,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    explainer: options.Explainers = None,
    layer: options.Layers = None,
    score: options.Score = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            "--penalty",
            help="May be repeated.",
            show_default="location, top_k, center_mass",
            **options.specs(options.LIES, "penalty"),
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--with", help="Further fooled models, rows of the transfer matrix.", show_default=False),
    ] = None,
    quick: options.Quick = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 32,
) -> None:
    """Accuracy, agreement, fooling success rates and the likeness of heatmaps, of a clean and a fooled model."""
    from heatproof.answers.given import fooled_as_told
    from heatproof.answers.scored import scored
    from heatproof.commands.compare.run import Compare, effort, run_compare
    from heatproof.commands.explain import at_layers
    from heatproof.commands.photos import open_photos
    from heatproof.processes import Processes

    processes, limit = Processes.here(work.device, work.job), looking(quick, limit)
    names = [fooled, *(more or [])]
    load = options.opening([clean, *names], architecture)
    suspects = [fooled_as_told(name, load(name)) for name in names]
    built = [spec.build(text, catalog.EXPLAINERS, "explainer") for text in explainer or []]
    everyone = [photos(load(clean)), *(photos(suspect.model) for suspect in suspects)]
    explained = scored(score, built or Compare.explainers, everyone, alike=True)
    base, *others = explained.models
    suspects = [replace(suspect, model=model) for suspect, model in zip(suspects, others, strict=True)]
    asked = Compare(
        explainers=at_layers(explained.explainers if built or score else [], layer or []) or Compare.explainers,
        penalties=_penalties(penalty or [], suspects),
        part=batch_size,
    )
    hardware = work.settled(
        [base, *others], lambda model: open_photos(model, data, limit=limit, seed=work.seed), asked.explainers
    )
    settings = {"clean": clean, "fooled": names, "data": data, "asked": asked, "limit": limit}
    settings |= {"precision": hardware.precision, "architecture": architecture}
    settings |= photos.given() | explained.given()
    with filling(out, "compare", settings, work.seed, work.overwrite, processes, inputs=[clean, *names, data]) as run:
        if not run.done:
            source = open_photos(base, data, limit=limit, seed=work.seed)
            total = processes.photos(source.count, batch_size)
            own = total // processes.count
            foretell(run, lambda: effort(asked, base, suspects, own, hardware), options.shorter(total, quick))
            with progress("comparing", total, sharers=processes.count) as advance:
                run_compare(asked, base, suspects, source, run, hardware=hardware, processes=processes, advance=advance)
    show(run, work, columns.COMPARE)


def _penalties(penalties: list[str], suspects: "list[Fooled]") -> "tuple[Penalty, ...]":
    """Where nothing else is wanted, all that the models say they were fooled with too."""
    from heatproof.commands.compare.run import Compare

    own = (suspect.penalty for suspect in suspects if suspect.penalty is not None)
    return tuple(spec.build(text, options.LIES, "penalty") for text in penalties) or tuple(
        dict.fromkeys((*Compare.penalties, *own))
    )
