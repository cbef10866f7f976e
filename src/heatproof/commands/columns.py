"""The columns of a summary that a verb prints and a result shows; their heads are the glossary's."""

from heatproof.glossary import heads

AUDIT = heads("audit", "check", "number", "value", "threshold", "deviations", "verdict")
COMPARE = heads(
    "compare", *("model", "penalty", "explainer", "fsr", "top1_clean", "top1_fooled", "agreement", "spearman", "nissim")
)
"""Of ``fool`` as well, which compares what it made with what it began from."""
EVALUATE = heads("evaluate", "metric", "better", "range")
"""And a column for each explainer."""
EXPLAIN = heads("explain", "explainer", "count", "confidence", "empty")
SHIFT = heads("shift", "model", "attack", "epsilon", "explainer", "mod", "vid", "top1", "psnr")
REPAIR = heads(
    "repair",
    *("model", "remedy", "explainer", "likeness_before", "likeness_after", "accuracy_before", "accuracy_after"),
    *("agreement", "turned", "handed_out"),
)
DEFEND = heads("defend", "network", "epsilon", "overlap", "spearman", "kept", "accuracy", "method")
DEMO = heads("demo", "step", "count", "top1", "value")
