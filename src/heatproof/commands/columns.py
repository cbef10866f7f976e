"""The columns of a summary that a verb prints and a result shows: keys and their heads."""

AUDIT = {
    "check": "check",
    "number": "number",
    "value": "value",
    "threshold": "fails beyond",
    "deviations": "deviations",
    "verdict": "verdict",
}
COMPARE = {
    "model": "model",
    "penalty": "penalty",
    "explainer": "explainer",
    "fsr": "FSR",
    "top1_clean": "top-1 clean",
    "top1_fooled": "top-1 fooled",
    "agreement": "agreement",
    "spearman": "rank correlation",
    "nissim": "NISSIM",
}
"""Of ``fool`` as well, which compares what it made with what it began from."""
EVALUATE = {"metric": "metric", "better": "better", "range": "range"}
"""And a column for each explainer."""
SHIFT = {
    "model": "model",
    "attack": "attack",
    "epsilon": "epsilon",
    "explainer": "explainer",
    "mod": "MOD",
    "vid": "VID",
    "top1": "top-1",
    "psnr": "PSNR",
}
REPAIR = {
    "model": "model",
    "remedy": "remedy",
    "explainer": "explainer",
    "likeness_before": "likeness before",
    "likeness_after": "after",
    "accuracy_before": "accuracy before",
    "accuracy_after": "after",
    "agreement": "agreement",
    "turned": "turned",
    "handed_out": "handed out",
}
DEFEND = {
    "network": "network",
    "epsilon": "epsilon",
    "overlap": "overlap",
    "spearman": "rank correlation",
    "kept": "class kept",
    "accuracy": "accuracy",
    "method": "method",
}
