"""Plant a heatmap by hand, into a run folder from which the edited network can be loaded again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from heatproof.commands.compare.summary import METRICS, class_rows, kept, shares
from heatproof.commands.fool.measure import Lie, draw_lie, measure
from heatproof.commands.record import data_record, model_record
from heatproof.commands.wanted import wanted
from heatproof.data.batches import batches
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.backdoor import Backdoor
from heatproof.manipulation.penalties import TargetMap, TopK
from heatproof.manipulation.weight_edit import RANDOM, WeightEdit
from heatproof.models.checkpoint import check_weights
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.planted import planting_of
from heatproof.report.words import counted
from heatproof.results.run import Run
from heatproof.results.skipped import all_skipped
from heatproof.results.table import summarise
from heatproof.types import Explainer, Penalty, settings


@settings
class Edit:
    """What :func:`run_edit` does.

    Args:
        edit: of the weights.
        explainer: whose heatmaps are measured.
        shown: photos in the figure.
    """

    edit: WeightEdit = WeightEdit()
    explainer: Explainer = GradCAM()
    shown: int = 4

    @property
    def penalty(self) -> Penalty:
        """What the edit is judged by: the wanted map, or, of a random one, that the honest map's top is rated low.

        With a trigger photos lie that show the wanted map with it, the honest one without it, and answer alike.
        """
        if self.edit.trigger is not None:
            return Backdoor(self.edit.target, trigger=self.edit.trigger)
        return TopK() if self.edit.target == RANDOM else TargetMap(self.edit.target)


def run_edit(
    settings: Edit,
    model: Classifier,
    name: str,
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Edit the weights, then measure every photo; ``hp.load(run.folder)`` gives the edited model.

    ``run.json`` says where the filter is planted (``model[0].planted``), ``model.safetensors`` holds its numbers.

    Args:
        name: what ``hp.load`` calls the clean model: the folder remembers it to build the network again.
        source: photos that are measured; the first few also set the strength.

    Returns:
        The summary as written to ``summary.json``, with the columns of a comparison.

    Raises:
        InputError: a network that cannot be edited, a map that does not fit, no readable photo.
    """
    check_weights(model)
    first = next(iter(batches(source, model.preprocessing, 8)), None)
    if first is None:
        raise InputError(f"none of the {counted(source.count)} of {source.name} can be read")
    edited = settings.edit(model, first.images)
    planting = planting_of(edited)
    assert planting is not None
    run.describe(model=[model_record(model, name, planted=asdict(planting))], data=data_record(source))
    edited.name = run.folder.name
    run.write_tensors("model.safetensors", edited.network.state_dict())
    lie = Lie(hardware.host(model), hardware.host(edited), settings.explainer, settings.penalty)
    table = measure(lie, source, run, hardware, advance)
    [row] = summarise(table, ["model", "penalty", "explainer"], METRICS)
    answer = (
        f"{shares(row.means['fsr'], row.count)} of {settings.explainer!r} {wanted(settings.edit)}, planted behind "
        f"{planting.layer} by {settings.edit!r}. {kept(row)}"
    )
    summary = {
        "rows": [row.plain()],
        "classes": class_rows(table, lie.clean),
        "skipped": all_skipped(run, source),
        "answer": [answer],
    }
    draw_lie(lie, source, table, settings.shown, run, hardware)
    run.write_json("summary.json", summary)
    return summary
