"""``heatproof explain``: what does the network look at?"""

from typing import TYPE_CHECKING, Annotated

import typer

from heatproof import catalog, spec
from heatproof.cli import options
from heatproof.cli.console import foretell, progress, say
from heatproof.cli.finish import filling, show
from heatproof.commands import columns
from heatproof.errors import SpecError

if TYPE_CHECKING:
    from heatproof.models.classifier import Classifier


def _figures(text: str | None) -> int | str | None:
    """``20`` or ``all``.

    >>> _figures("20"), _figures("ALL"), _figures(None)
    (20, 'all', None)
    """
    if text is None or text.casefold() == "all":
        return None if text is None else "all"
    if not text.isascii() or not text.isdecimal():
        raise SpecError(f"--figures is a number of photos, or all, got {text!r}")
    return int(text)


@options.grouped
def explain(
    images: Annotated[list[str], typer.Argument(help="Photos, folders, manifests, shards, or demo.")],
    model: options.Model,
    work: options.Work,
    photos: options.Photos,
    out: options.Out = None,
    architecture: options.Architecture = None,
    explainer: options.Explainers = None,
    layer: options.Layers = None,
    score: options.Score = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="A class by name or number; may be repeated.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Without --target: so many predicted classes.")] = 2,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="N|all",
            help="So many photos are drawn and shown in the page: mistakes first, then the least sure.",
            show_default="all of at most 50, else 20",
            callback=_figures,
        ),
    ] = None,
    heatmaps: Annotated[bool, typer.Option("--heatmaps", help="Also keep the raw maps.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write figures as PDF.")] = False,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 16,
) -> None:
    """Heatmaps of photos: a figure per photo with a row per class and a column per explainer and layer."""
    from heatproof.answers.scored import scored
    from heatproof.commands.explain import STANDARD, Explain, at_layers, effort, run_explain
    from heatproof.commands.photos import open_photos
    from heatproof.models.layers import find_layer
    from heatproof.processes import Processes

    processes = Processes.here(work.device, work.job)
    built = [spec.build(text, catalog.EXPLAINERS, "explainer") for text in explainer or []]
    explained = scored(score, built or STANDARD, [photos(options.opening([model], architecture)(model))])
    classifier = explained.models[0]
    for name in layer or []:
        find_layer(classifier, name)
    asked = Explain(
        explainers=at_layers(explained.explainers, layer or []),
        targets=tuple(_class(classifier, name) for name in target or []),
        top=top,
        keep_heatmaps=heatmaps,
        pdf=pdf,
        figures=figures,  # type: ignore[arg-type]
    )
    data = images if len(images) > 1 else images[0]
    source = open_photos(classifier, data, limit=limit, seed=work.seed, labels_needed=False)
    hardware = work.settled([classifier], lambda model: source, asked.explainers)
    given = {"images": images, "model": model, "asked": asked, "limit": limit, "precision": hardware.precision}
    given["architecture"] = architecture
    given |= photos.given() | explained.given()
    given["batch_size"] = batch_size  # what is done already is counted in batches
    with filling(out, "explain", given, work.seed, work.overwrite, processes, inputs=[model, *images]) as run:
        if not run.done:
            total = processes.photos(source.count, batch_size)
            count = total // processes.count
            foretell(run, lambda: effort(asked, classifier, count, hardware, batch_size))
            with progress("explaining", total, run=run, sharers=processes.count) as advance:
                run_explain(
                    asked,
                    classifier,
                    source,
                    run,
                    hardware=hardware,
                    processes=processes,
                    batch_size=batch_size,
                    advance=advance,
                )
    show(run, work, columns.EXPLAIN)


def _class(model: "Classifier", wanted: str) -> int:
    """The class that is meant, said where it was not given in full."""
    from heatproof.models.class_names import read_as

    index = model.class_index(wanted)
    if said := read_as(wanted, model.class_name(index), index):
        say(f"--target {said}")
    return index
