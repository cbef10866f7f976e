"""What a run folder remembers of what was read: models and data, with their hashes."""

from collections.abc import Sequence
from typing import Any

from heatproof.data.sources import Source
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.layers import default_layer
from heatproof.results.run import Run


def describe(
    run: Run,
    models: Sequence[Classifier],
    source: Source,
    *,
    names: Sequence[str] = (),
    held_out: Source | None = None,
) -> None:
    """Record models and data in ``run.json``.

    Args:
        names: of the models, where they are called otherwise in the run.
        held_out: photos apart from ``source`` that the run judges by.

    Raises:
        RunError: the folder was begun with others.
    """
    named = zip(names or [model.name for model in models], models, strict=True)
    data = data_record(source)
    if held_out is not None:
        data["held_out"] = data_record(held_out)
    run.describe(model=[model_record(model, name) for name, model in named], data=data)


def model_record(model: Classifier, name: str | None = None, **more: Any) -> dict[str, Any]:
    """``{name, sha256, layer, preprocessing}`` of a model, ``classes`` where they have names, and ``more``."""
    own: dict[str, Any] = {"name": name or model.name, "sha256": fingerprint(model), "layer": default_layer(model)}
    own["preprocessing"] = model.preprocessing.plain()
    if model.reading is not None:
        own["reading"] = repr(model.reading)
    if model.classes:
        own["classes"] = list(model.classes)
    return {**own, **more}


def data_record(source: Source) -> dict[str, Any]:
    """``{name, count, sha256}`` of data."""
    return {"name": source.name, "count": source.count, "sha256": source.fingerprint()}
