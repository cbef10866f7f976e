"""What is seen, as a run folder: the columns of ``shift``, both photos with their maps, a figure, and the page."""

from pathlib import Path

import numpy as np

from heatproof.answers.filling import make_page
from heatproof.commands.record import describe
from heatproof.commands.shift.figures import Seen, Shown, keep_views
from heatproof.commands.shift.measure import Condition, rows_of
from heatproof.commands.shift.summary import shift_rows
from heatproof.live.look import Live, Look, map_of, shift_of
from heatproof.report.figures import Panel, gallery
from heatproof.report.words import epsilon
from heatproof.results.folder import own_folder
from heatproof.results.run import Run
from heatproof.types import is_signed


def save(live: Live, look: Look, within: Path, typed: str = "") -> Path:
    """A new run folder ``app-MODEL-N``.

    Args:
        within: the folder that it is made in.
        typed: the command that started the page.

    Returns:
        The run folder; ``heatproof report`` makes its page again.

    Raises:
        RunError: it cannot be written.
    """
    settings = {"model": live.names, "images": look.image, "asked": look.wanted}
    folder = own_folder("app", settings, 0, within)
    options = {"typed": typed} if typed else {}
    with Run.start(folder, command="app", settings=settings, options=options, page=make_page) as run:
        describe(run, live.models, live.source, names=live.names)
        rows = []
        for place, sight in enumerate(look.sights):
            batch = look.batch(place)
            conditions = [sight.clean] if sight.attacked is sight.clean else [sight.clean, sight.attacked]
            for condition in conditions:
                name = sight.name
                rows += rows_of(shift_of(look.wanted), name, sight.model, batch, sight.clean, condition, {})
            shown = Shown(batch.ids[0], _seen(sight.clean), _seen(sight.attacked), is_signed(look.wanted.explainer))
            keep_views(run, sight.name, [shown], repr(look.wanted.explainer))
        run.append_rows(0, rows)
        table = run.merge()
        _draw(run, look)
        summary = {"rows": [row.plain() for row in shift_rows(table)], "answer": look.sentences, "skipped": []}
        run.write_json("summary.json", summary)
    return folder


def _seen(condition: Condition) -> Seen:
    pixels = condition.images[0].float().cpu().numpy()
    return Seen(condition.attack, condition.epsilon, pixels, map_of(condition)[0].cpu().numpy())


def _draw(run: Run, look: Look) -> None:
    """The maps as the page shows them: a row for each network, and one for their difference."""
    signed = is_signed(look.wanted.explainer)
    panels, names = [], []
    for sight in look.sights:
        pair = [_seen(sight.clean), _seen(sight.attacked)]
        panels.append([Panel(np.moveaxis(one.pixels, 0, -1), one.heatmap, signed) for one in pair])
        names.append(sight.name)
    if look.differences:
        photo = panels[0][0].photo
        panels.append([Panel(photo, one[0].cpu().numpy(), signed=True) for one in look.differences])
        names.append("first minus second")
    heads = ["clean", f"{look.sights[0].attacked.attack} at {epsilon(look.wanted.attack.epsilon)}"]
    gallery(panels, run.path("figures/seen.png"), rows=names, columns=heads, title=f"{look.image}: what was seen")
