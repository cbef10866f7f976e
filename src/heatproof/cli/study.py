"""``heatproof study``: the published experiments as recipes."""

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import catalog
from heatproof.cli import GATE, options
from heatproof.cli.console import say
from heatproof.cli.finish import filling, show
from heatproof.errors import SpecError, did_you_mean

if TYPE_CHECKING:  # loads slowly
    from heatproof.results.run import Run


@options.grouped
def study(
    name: Annotated[
        str, typer.Argument(help="A study: heatproof list studies.", autocompletion=options.completing(catalog.STUDIES))
    ],
    work: options.WholeWork,
    out: options.Out = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value; lists as key=a --set key=b.", show_default=False),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="The study's own set of settings.")] = "",
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="Of board: a folder with a board.json that is handed in.", show_default=False),
    ] = None,
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
    read = {**_preset(kind, preset, name), **options.read_settings(kind, given or [], work.seed)}
    asked = kind(**read, **_handed_in(kind, name, add or []))
    # most studies work in one process, and filling refuses several
    shared = "processes" in inspect.signature(kind.__call__).parameters
    processes = Processes.here(work.device) if shared else None
    more = {"processes": processes} if shared else {}
    hardware = work.hardware()
    settings = {"study": name, "asked": asked, "precision": work.precision}
    inputs = [*(text.partition("=")[2] for text in given or []), *(add or [])]
    with filling(out, "study", settings, work.seed, work.overwrite, processes, inputs=inputs) as run:
        if not run.done:
            asked(run, hardware=hardware, say=say, **more)
    show(run, work, getattr(kind, "columns", {"model": "model"}))
    if add and run.process == 0:
        _leave(run)


def _handed_in(kind: Any, name: str, folders: list[str]) -> dict[str, Any]:
    """The setting that holds what is handed in."""
    if not folders:
        return {}
    if "add" not in kind.__dataclass_fields__:
        raise SpecError(f"--add hands something in to the board, and study {name} is none: heatproof study board --add")
    from heatproof.answers.submitted import read_submission

    return {"add": tuple(read_submission(folder) for folder in folders)}


def _leave(run: "Run") -> None:
    """The exit status says where a claim was not met."""
    from heatproof.results.strict import read_summary

    refused = read_summary(run.folder).get("refused")
    if refused:
        say(f"refused: {', '.join(map(str, refused))}")
        raise typer.Exit(GATE)


def _preset(kind: Any, preset: str, name: str) -> dict[str, Any]:
    presets = getattr(kind, "presets", {})
    if preset and preset not in presets:
        raise SpecError(f"study {name} has no preset {preset!r}; {did_you_mean(preset, presets)}")
    return presets.get(preset, {})
