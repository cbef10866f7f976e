"""One engine that fine-tunes, for foolings, defences and repair; it knows none of them.

::

    data ─▶ feeds ─▶ setup (the copy, the clean model, what is trained; split_at: the rear half alone)
                       │
    clean_model: reference outputs ─▶ terms ─▶ loop ◀─▶ state (checkpoint)
                                               │  ▲
                                       history ◀  evaluation (score, accuracy: the budget)

A loss is a list of :class:`~heatproof.training.terms.Term`, which share one forward pass for heatmaps and logits; an
:class:`~heatproof.training.evaluation.Evaluation` ranks the checkpoints. Both are handed to
:class:`~heatproof.training.loop.TrainingLoop` by whoever wants something of the weights, as
:mod:`heatproof.manipulation.fine_tune` does. ``plain`` trains networks without any of this.
"""
