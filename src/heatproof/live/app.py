"""The live page from Python, as from the command line."""

from collections.abc import Sequence
from pathlib import Path

from heatproof.answers.given import Data, Model, as_classifier, as_source, several
from heatproof.errors import InputError
from heatproof.live.look import Live
from heatproof.live.server import Server
from heatproof.live.wire import Words
from heatproof.models.hardware import Hardware


def app(
    model: Model | Sequence[Model],
    photos: Data,
    *,
    explainer: str | Sequence[str] = (),
    limit: int | None = None,
    port: int = 0,
    device: str = "auto",
    out: Path | str = "runs",
) -> Server:
    """A page with sliders: the map, the label and the probability of a photo while it is attacked and smoothed.

    It is served on 127.0.0.1 until ``close()``; open its ``url``.

    Args:
        model: one, or two that are looked at side by side.
        explainer: specs that the page offers besides its own.
        limit: of data by name, at most so many photos, evenly spread.
        port: 0 for any that is free.
        out: where run folders are made of what is saved.

    Raises:
        HeatproofError: a model, photos or a port that do not fit; the text says the way out.
    """
    models = [as_classifier(one) for one in several(model)]
    if not 1 <= len(models) <= 2:
        raise InputError(f"the page shows one network, or two side by side, got {len(models)}")
    live = Live(models, as_source(photos, models[0], limit=limit), Hardware(device))
    return Server(Words(live, several(explainer)), port, Path(out)).in_background()
