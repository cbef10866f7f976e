"""Defend from Python: the verb of the command line, with the same settings."""

from collections.abc import Sequence
from pathlib import Path

from heatproof import catalog, spec
from heatproof.answers.filling import filled, named_model, progress, result
from heatproof.answers.given import METHODS, Data, Model, as_classifier, as_source, at_named_layers, built, named
from heatproof.answers.result import Result
from heatproof.commands import columns
from heatproof.commands.defend.run import Defend, effort, run_defend
from heatproof.habits import checked_verb
from heatproof.models.hardware import Hardware, Precision
from heatproof.robust.attack import MapAttack
from heatproof.robust.methods import Alignment, Method
from heatproof.robust.train import RECIPE
from heatproof.training.settings import FineTune
from heatproof.types import Explainer


@checked_verb
def defend(
    model: Model,
    data: Data,
    *,
    method: str | Method = Alignment(),
    explainer: str | Explainer = "simple_grad()",
    recipe: FineTune = RECIPE,
    epsilons: Sequence[float] = (4 / 255,),
    attack: MapAttack = MapAttack(),
    judged: int = 64,
    held_out: Data | None = None,
    control: bool = False,
    limit: int | None = None,
    device: str = "auto",
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Result:
    """Train a copy of the model so that its heatmaps hold still under attack, within a budget of accuracy.

    Args:
        data: photos such as the model was trained on, with their labels unless ``recipe.keep`` is ``"outputs"``.
        method: alignment(), hessian(), thickness(), ssr(), adversarial(), weight_decay(), softplus() or plain().
        explainer: whose maps are to hold still.
        recipe: how the copy is trained; its ``max_accuracy_drop`` is the budget, its ``weight`` a further factor of
            what the method adds to the loss.
        epsilons: of the attack that judges, in pixel units of [0, 1].
        attack: that judges; its own epsilon gives way to each of these.
        judged: held-out photos that are attacked.
        held_out: photos to judge by; ``None``: a tenth of the data.
        control: also train ``plain()`` for as long, and judge it.
        limit: at most so many photos, evenly spread.
        out: the run folder, with its page, from which ``hp.load`` loads the defended network.

    Returns:
        A result whose ``model`` is the defended network.

    Raises:
        HeatproofError: a model, data or settings that do not fit; the text says the way out.
    """
    given = as_classifier(model)
    [chosen] = at_named_layers(built(explainer, catalog.EXPLAINERS, "explainer"), given)
    what = spec.build(method, METHODS, "method") if isinstance(method, str) else method
    asked = Defend(what, chosen, recipe, attack, tuple(epsilons), judged, control)
    precision: Precision = recipe.precision
    source = as_source(data, given, limit=limit, seed=recipe.seed)
    apart = None if held_out is None else as_source(held_out, given, seed=recipe.seed)
    name = named_model(model)
    settings = {"data": named(data), "model": name, "asked": asked, "limit": limit}
    settings |= {"held_out": None if held_out is None else named(held_out)}
    steps = recipe.steps * (2 if control else 1)
    hardware = Hardware(device, precision)
    count = round(recipe.holdout * len(source)) if apart is None else len(apart)
    more = len(source) - (count if apart is None else 0)
    with (
        filled(out, "defend", settings, recipe.seed, overwrite, [model, data, held_out]) as run,
        progress("defending", steps, run, lambda: effort(asked, given, more, count, hardware)) as advance,
    ):
        if run.done:
            made = as_classifier(str(run.folder))
        else:
            made = run_defend(
                asked,
                given,
                name,
                source,
                run,
                held_out=apart,
                hardware=hardware,
                advance=lambda what, count: advance(0 if what == "attacking" else count),
            )
        return result("defend", run, columns.DEFEND, out, model=made)
