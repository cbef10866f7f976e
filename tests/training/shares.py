"""A fine-tuning to be run by several processes, or to be killed: ``python -m tests.training.shares ...``."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from tests.training.nets import convolutions, patches

from heatproof.explainers.cam import GradCAM
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import TopK
from heatproof.results.checkpoint import FileCheckpoint
from heatproof.results.run import Run
from heatproof.training.settings import FineTune

ASKED = FineTune(steps=20, lr=3e-3, batch_size=8, evaluate_every=6, max_accuracy_drop=1.0, holdout=0.25)


def tuned(folder: Path | None, kill_at: int = -1):
    """The fooled weights and the losses; at step ``kill_at`` the process dies without a word."""
    torch.set_num_threads(1)

    def advance(row):
        if row["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(checkpoint):
        return fine_tune(
            convolutions(),
            GradCAM("stage3"),
            TopK(),
            patches(64, seed=3),
            ASKED,
            checkpoint=checkpoint,
            advance=advance,
        )

    if folder is None:
        return run(None)
    with Run.start(folder, command="fool", settings={"asked": ASKED}) as kept:
        return run(FileCheckpoint(kept.path("checkpoint.pt")))


if __name__ == "__main__":
    what, out = sys.argv[1], Path(sys.argv[2])
    if what == "share":
        _, history = tuned(None)
        rank = os.environ.get("RANK", "0")
        losses = [row.get("loss") for row in history.rows]
        (out / f"losses-{rank}.json").write_text(json.dumps([losses, history.looks]))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            torch.distributed.destroy_process_group()
    else:
        fooled, _ = tuned(out, int(sys.argv[3]))
        torch.save(fooled.state_dict(), out / "ended.pt")
