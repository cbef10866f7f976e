"""``heatproof study``: the published experiments as recipes."""

import inspect
from typing import Annotated, Any

import typer

from heatproof import catalog
from heatproof.cli import options
from heatproof.cli.console import say
from heatproof.cli.finish import filling, show
from heatproof.errors import SpecError, did_you_mean


@options.grouped
def study(
    name: Annotated[
        str, typer.Argument(help="A study: heatproof list studies.", autocompletion=options.completing(catalog.STUDIES))
    ],
    work: options.Work,
    out: options.Out = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value; lists as key=a --set key=b.", show_default=False),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="The study's own set of settings.")] = "",
) -> None:
    """Repeat a published experiment, with its own settings or yours."""
    if name not in catalog.STUDIES:
        raise SpecError(f"there is no study {name!r}; {did_you_mean(name, catalog.STUDIES)}")
    work.whole(
        "a study is a recipe of trainings and verbs that build on each other; give it without --shard, or one command "
        "for each setting (--set) into a folder of its own"
    )
    from heatproof.processes import Processes

    kind = catalog.STUDIES[name]
    asked = kind(**{**_preset(kind, preset, name), **options.read_settings(kind, given or [], work.seed)})
    # most studies work in one process, and filling refuses several
    shared = "processes" in inspect.signature(kind.__call__).parameters
    processes = Processes.here(work.device) if shared else None
    more = {"processes": processes} if shared else {}
    hardware = work.hardware()
    settings = {"study": name, "asked": asked, "precision": work.precision}
    inputs = [text.partition("=")[2] for text in given or []]
    with filling(out, "study", settings, work.seed, work.overwrite, processes, inputs=inputs) as run:
        if not run.done:
            asked(run, hardware=hardware, say=say, **more)
    show(run, work, getattr(kind, "columns", {"model": "model"}))


def _preset(kind: Any, preset: str, name: str) -> dict[str, Any]:
    presets = getattr(kind, "presets", {})
    if preset and preset not in presets:
        raise SpecError(f"study {name} has no preset {preset!r}; {did_you_mean(preset, presets)}")
    return presets.get(preset, {})
