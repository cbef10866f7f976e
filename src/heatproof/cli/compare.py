"""``heatproof compare``: what a lie cost, and whom it deceives."""

from typing import TYPE_CHECKING, Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import progress
from heatproof.cli.finish import filling, show
from heatproof.commands import columns

if TYPE_CHECKING:
    from heatproof.commands.compare.run import Compare, Fooled


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
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            "--penalty",
            help="May be repeated.",
            show_default="location, top_k, center_mass",
            callback=options.names(options.LIES, "penalty"),
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--with", help="Further fooled models, rows of the transfer matrix.", show_default=False),
    ] = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 32,
) -> None:
    """Accuracy, agreement, fooling success rates and the likeness of heatmaps, of a clean and a fooled model."""
    from heatproof.answers.given import fooled_as_told
    from heatproof.commands.compare.run import run_compare
    from heatproof.commands.photos import open_photos
    from heatproof.processes import Processes

    processes = Processes.here(work.device)
    hardware = work.hardware()
    names = [fooled, *(more or [])]
    load = options.opening([clean, *names], architecture)
    suspects = [fooled_as_told(name, load(name)) for name in names]
    asked = _asked(explainer or [], layer or [], penalty or [], suspects, batch_size)
    base = photos(load(clean))
    for suspect in suspects:
        photos(suspect.model)
    settings = {"clean": clean, "fooled": names, "data": data, "asked": asked, "limit": limit}
    settings |= {"precision": work.precision, "architecture": architecture}
    settings |= photos.given()
    with filling(out, "compare", settings, work.seed, work.overwrite, processes, inputs=[clean, *names, data]) as run:
        if not run.done:
            source = open_photos(base, data, limit=limit, seed=work.seed)
            with progress("comparing", source.count) as advance:
                run_compare(asked, base, suspects, source, run, hardware=hardware, processes=processes, advance=advance)
    show(run, work.json, columns.COMPARE)


def _asked(
    explainers: list[str], layers: list[str], penalties: list[str], suspects: "list[Fooled]", part: int
) -> "Compare":
    """What is compared: where nothing else is wanted, all that the models say they were fooled with too."""
    from heatproof.commands.compare.run import Compare
    from heatproof.commands.explain import at_layers

    built = [spec.build(text, catalog.EXPLAINERS, "explainer") for text in explainers]
    own = (suspect.penalty for suspect in suspects if suspect.penalty is not None)
    return Compare(
        explainers=at_layers(built, layers) or Compare.explainers,
        penalties=tuple(spec.build(text, options.LIES, "penalty") for text in penalties)
        or tuple(dict.fromkeys((*Compare.penalties, *own))),
        part=part,
    )
