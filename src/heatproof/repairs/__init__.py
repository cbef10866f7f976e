"""The lie taken out of a checkpoint again, without the original and without labels.

::

    photos ─▶ witness (the checkpoint's own black box) ─┐
       │                                                ▼
    checkpoint ─▶ training ◀─ its own outputs, and the pull of the maps to the witness ─▶ repaired
                                                        │
                                  evaluation: accuracy (the budget), likeness to the witness

A :class:`~heatproof.repairs.remedies.Remedy` says what is done to the weights; :func:`~heatproof.repairs.repair.repair`
does it with the training engine and hands out the best checkpoint inside the budget.
"""
