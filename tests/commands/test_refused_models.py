"""Models whose numbers are none, given in Python: every verb refuses them by the tensor's name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from heatproof.commands.audit.run import Audit, run_audit
from heatproof.commands.compare.run import Compare, Fooled, run_compare
from heatproof.commands.evaluate.run import Evaluate, run_evaluate
from heatproof.commands.explain import Explain, run_explain
from heatproof.commands.fool.edit import Edit, run_edit
from heatproof.commands.fool.run import Fool, run_fool
from heatproof.commands.shift.run import Shift, run_shift
from heatproof.data.sources import open_data
from heatproof.errors import ModelError
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.results.run import Run

DATA = open_data("demo", limit=12)
VERBS: dict[str, Callable[[Classifier, Run], object]] = {
    "explain": lambda model, run: run_explain(Explain(), model, DATA, run),
    "shift": lambda model, run: run_shift(Shift(), [model], lambda model: DATA, run),
    "audit": lambda model, run: run_audit(Audit(budget=37), model, DATA, run),
    "reference": lambda model, run: run_audit(Audit(budget=37), load("demo"), DATA, run, reference=model),
    "compare": lambda model, run: run_compare(Compare(), load("demo"), [Fooled(model)], DATA, run),
    "evaluate": lambda model, run: run_evaluate(Evaluate(), model, DATA, run),
    "fool": lambda model, run: run_fool(Fool(), model, "demo", DATA, run),
    "edit": lambda model, run: run_edit(Edit(), model, "demo", DATA, run),
}
KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN or infinite": lambda weight: weight.clone().index_fill_(0, torch.tensor([0]), torch.nan),
    "is complex": lambda weight: weight.to(torch.complex64),
    "is sparse": lambda weight: weight.to_sparse(),
    "is on the meta device": lambda weight: weight.to("meta"),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("verb", list(VERBS))
def test_models_without_numbers_are_refused(verb: str, kind: str, tmp_path: Path) -> None:
    model = load("demo")
    layer = next(module for module in reversed(list(model.network.modules())) if isinstance(module, nn.Linear))
    layer.weight = nn.Parameter(KINDS[kind](layer.weight.detach()))
    with pytest.raises(ModelError, match=kind), Run.start(tmp_path / "out", command=verb, settings={}) as run:
        VERBS[verb](model, run)
