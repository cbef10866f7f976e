"""A reference where there is none: the checkpoint itself, its maps pulled to its own black-box witness.

The farther the maps travel to what the checkpoint answers when parts are blurred, the farther they were from it. No
original is needed and no other network: the engine is that of ``heatproof repair``.
"""

import copy
from collections.abc import Callable

import torch

from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier
from heatproof.processes import Processes
from heatproof.repairs.remedies import Truth
from heatproof.repairs.repair import BATCH, Means, repair
from heatproof.repairs.witness import questions
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.results.strict import read_tensors
from heatproof.types import Explainer

SELF = "self"
"""The name by which the repaired checkpoint is asked for as a reference."""
STEPS = 150
"""Of the training; a quarter of them twice, where two layers to train from are tried."""
BUDGET = 0.05
"""Of the accuracy on the audited photos: a reference need not be as good as what it is made of."""
FEWEST = 30
"""Photos without which the pull is learnt by heart."""
FILE = "reference.safetensors"


def own_reference(
    model: Classifier,
    explainer: Explainer,
    source: Source,
    run: Run,
    *,
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> Classifier | None:
    """The checkpoint after ``truth()`` on the audited photos, by which it is also judged; labels are not looked at.

    Kept as ``reference.safetensors`` in the run, and taken from there when the run goes on; a training that was
    stopped goes on where it was.

    Returns:
        ``None`` where nothing came closer to the witness inside :data:`BUDGET`: then nothing can be said.

    Raises:
        InputError: too few photos, or an explainer without a derivative in the weights.
    """
    made = copy.deepcopy(model).eval()
    made.name = f"{model.name}, repaired"
    if not run.path(FILE).exists():
        if len(source) < FEWEST:
            raise InputError(
                f"a reference of the checkpoint's own needs at least {FEWEST} photos, got {len(source)}; give more, or "
                "audit without --reference self"
            )
        means = Means(lambda part: FileCheckpoint(run.path(f"scratch/{part}.pt")), run.folder / "scratch", advance)
        found = repair(
            model,
            explainer,
            source,
            Truth(steps=STEPS, mosaics=0),
            held_out=source,
            max_accuracy_drop=BUDGET,
            seed=seed,
            means=means,
        )
        run.write_tensors(FILE, {name: value.contiguous() for name, value in found.model.network.state_dict().items()})
    kept = read_tensors(run.path(FILE), "delete it and give the same command again")
    as_it_came = all(torch.equal(kept[name], value.cpu()) for name, value in made.network.state_dict().items())
    made.network.load_state_dict(kept)
    return None if as_it_came else made


def check_alone(processes: Processes) -> None:
    """Stop what several processes, or shares of a job, would each repair for themselves.

    Raises:
        InputError: the work is shared.
    """
    if processes.count > 1 or processes.job.is_share:
        raise InputError(
            "a reference of the checkpoint's own is made by one process from all photos: leave --shard and the "
            "launcher away, or repair first (heatproof repair MODEL DATA --always) and give the folder as --reference"
        )


def passes(photos: int) -> int:
    """Forward passes that the repair takes, about: the witness, and four for each photo and view of a training step."""
    return photos * questions() + 4 * 2 * BATCH * round(1.5 * STEPS)
