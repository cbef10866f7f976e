"""Repair from Python: the verb of the command line, with the same settings."""

from pathlib import Path

from heatproof import catalog, spec
from heatproof.answers.filling import filled, named_model, progress, result
from heatproof.answers.given import Data, Model, as_classifier, as_source, at_named_layers, built, named
from heatproof.answers.result import Result
from heatproof.commands import columns
from heatproof.commands.repair.run import Repair, effort, run_repair
from heatproof.habits import checked_verb
from heatproof.models.hardware import Hardware, Precision
from heatproof.repairs.remedies import Remedy, Truth
from heatproof.types import Explainer


@checked_verb
def repair(
    model: Model,
    data: Data,
    *,
    remedy: str | Remedy = Truth(),
    explainer: str | Explainer = "gradcam()",
    max_accuracy_drop: float = 0.02,
    held_out: Data | None = None,
    always: bool = False,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Result:
    """Take the lie out of a checkpoint, without the original and without labels.

    Args:
        data: photos of the kind that the model is used on; 2,000 repair well.
        remedy: truth(), finetune(), rebn(), prune() or relearn().
        explainer: whose maps are repaired.
        max_accuracy_drop: the budget: of the accuracy on the held-out photos where they have labels, else of what it is
            by the checkpoint's own probabilities.
        held_out: photos to judge by; ``None``: a tenth of the data.
        always: hand out the pulled weights also where no lie was found.
        limit: at most so many photos, evenly spread.
        out: the run folder, with its page, from which ``hp.load`` loads the repaired network.

    Returns:
        A result whose ``model`` is the repaired network.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    given = as_classifier(model)
    [chosen] = at_named_layers(built(explainer, catalog.EXPLAINERS, "explainer"), given)
    what = spec.build(remedy, catalog.REPAIRS, "remedy") if isinstance(remedy, str) else remedy
    asked = Repair(what, chosen, max_accuracy_drop, seed=seed, always=always)
    source = as_source(data, given, limit=limit, seed=seed)
    judged = None if held_out is None else as_source(held_out, given, seed=seed)
    name = named_model(model)
    settings = {"model": name, "data": named(data), "asked": asked, "limit": limit, "precision": precision}
    settings |= {"held_out": None if held_out is None else named(held_out)}
    hardware = Hardware(device, precision)
    aside = round(asked.holdout * len(source)) if judged is None else len(judged)
    count = len(source) - (aside if judged is None else 0)
    with (
        filled(out, "repair", settings, seed, overwrite, [model, data, held_out]) as run,
        progress("repairing", len(source), run, lambda: effort(asked, given, count, aside, hardware)) as advance,
    ):
        if run.done:
            made = as_classifier(str(run.folder))
        else:
            made = run_repair(
                asked,
                given,
                name,
                source,
                run,
                held_out=judged,
                hardware=hardware,
                advance=lambda what, count: advance(count if what == "asking" else 0),
            )
        return result("repair", run, columns.REPAIR, out, model=made)
