"""``heatproof merge``: the shards of a job joined, and the verb's end made of them: table, answer, page."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatproof import cli
from heatproof.cli import options
from heatproof.cli.console import say, volume
from heatproof.errors import HeatproofError, RunError, SpecError
from heatproof.shard import Shard

if TYPE_CHECKING:  # loads slowly
    from heatproof.results.joining import Shards
    from heatproof.results.run import Run

SHARDED = ("explain", "shift", "compare", "audit", "evaluate")
"""The verbs that take ``--shard``."""
CODE = re.compile(r"\.py(?=$|[:@(])")
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of the click that typer carries, or of click itself
LEFT_OUT = {"--shard": 1, "--out": 1, "-o": 1} | dict.fromkeys(
    ("--overwrite", "--json", "--quiet", "-q", "--verbose", "-v", "--open"), 0
)
"""What a shard's command says of itself, and how many words follow."""


def merge(
    runs: Annotated[list[Path], typer.Argument(help="The run folders of a job's shards, in any order.")],
    out: options.Out = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Go on without shards that are missing or not done; the page says which.")
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code", help="Run the FILE.py that the shards' model is built by. Only for folders of yours."
        ),
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="For the figures of the end.", show_default="that of the shards")
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    show: options.Open = False,
) -> None:
    """Join the run folders of shards (--shard k/n) into one, and end it: table, answer, figures and page."""
    from heatproof.processes import launched
    from heatproof.results.joining import join, read_shards

    volume.quiet, volume.verbose = quiet, verbose
    if launched()[1] > 1:
        raise SpecError("heatproof merge works in one process: give it without torchrun or accelerate launch")
    shards = read_shards(runs, partial=partial)
    words, context = _command(shards, trust_code)
    if device is not None:
        words = [*words, "--device", device]
        context.params["device"] = device
    # what auto came to where the shards ran, and not what it would come to here
    context.params["precision"] = shards.record["settings"].get("precision", context.params.get("precision"))
    run = join(shards, out, overwrite=overwrite, inputs=_inputs(context))
    words = [*words, "--out", str(run.folder)]
    if out is None:
        say(f"into {run.folder}")
    context.params |= {"out": run.folder, "shard": Shard(0, shards.count), "overwrite": False, "json": json}
    context.params |= {"quiet": quiet, "verbose": verbose, "open": show}
    _end(words, context, run)


def _command(shards: "Shards", trust_code: bool) -> "tuple[list[str], typer.Context]":
    """What the shards were told, without what was each one's own, as typed and as understood; nothing is run yet.

    Raises:
        RunError: the shards were made from Python, or the command names code.
    """
    record = shards.record
    typed = (record.get("options") or {}).get("typed")
    verb = record["command"]
    if not isinstance(typed, str) or not typed:
        raise RunError(
            f"these shards of {verb} were made from Python, and so is their end: join them with "
            f"hp.merge(runs, out=OUT), and call hp.{verb} as before, without shard= and with out=OUT"
        )
    import typer.main

    from heatproof.cli.verbs import app

    try:
        name, words = _without_own(shlex.split(typed))
        if name != verb or verb not in SHARDED:
            raise ValueError(f"it is no heatproof {' or '.join(SHARDED)}")
        group: Any = typer.main.get_command(app)
        context = group.commands[verb].make_context(verb, list(words))
    except (ValueError, typer.Exit, USAGE_ERROR) as error:
        reason = getattr(error, "format_message", lambda: str(error))()
        raise RunError(
            f"{shards.found[0].folder / 'run.json'} names a command that cannot be read, {typed[:200]!r} ({reason}); "
            "give the shard's command again"
        ) from error
    code = next((word for word in words if CODE.search(word)), None)
    if code is not None and not trust_code:
        raise RunError(
            f"the shards' command names a file of code, {code!r}, which is not run: run folders may be a stranger's. "
            "Where they are yours, --trust-code"
        )
    return [verb, *words], context


def _without_own(words: Sequence[str]) -> tuple[str, list[str]]:
    """The verb, and the words that are not of one shard only.

    >>> _without_own(["heatproof", "shift", "demo", "--shard", "1/3", "-o", "a", "--model", "demo"])
    ('shift', ['demo', '--model', 'demo'])
    >>> _without_own(["heatproof", "shift", "demo", "--shard=1/3"])
    ('shift', ['demo'])
    """
    if len(words) < 2 or words[0] != "heatproof":
        raise ValueError("it does not begin with heatproof VERB")
    kept: list[str] = []
    follow = 0
    for word in words[2:]:
        if follow:
            follow -= 1
        elif word in LEFT_OUT:
            follow = LEFT_OUT[word]
        elif word.partition("=")[0] not in LEFT_OUT:
            kept.append(word)
    return words[1], kept


def _inputs(context: typer.Context) -> list[Path | str]:
    """Every text that was given: whatever of it is a file or a folder must not be emptied."""
    given = [value for value in context.params.values() if value]
    texts = [one for value in given for one in (value if isinstance(value, list | tuple) else [value])]
    return [text for text in texts if isinstance(text, str | Path)]


def _end(words: Sequence[str], context: typer.Context, run: "Run") -> None:
    """The verb goes on with the joined folder, of which no part is left to do."""
    typed = cli.command_line(words)
    with cli.typing(words):
        try:
            with context:
                context.command.invoke(context)
        except HeatproofError:
            say(f"the shards are joined in {run.folder}; once what is wrong is mended, this goes on: {typed}")
            raise
