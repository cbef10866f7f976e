"""Training that makes heatmaps hold still when pixels are moved, within a budget of accuracy.

::

    photos ─▶ training ◀─ terms: the function is held, and what moves the maps is paid for ─▶ defended network
       │                                                                                          │
       └──▶ attack on the map (PGD) ─▶ overlap of its highest cells, accuracy ◀───────────────────┘

A :class:`~heatproof.robust.methods.Method` says which terms, and whether the network is altered for good
(softplus for ReLU, a blurred layer); :func:`~heatproof.robust.train.train_robustly` does it with the training
engine and hands out the last checkpoint inside the budget.
"""
