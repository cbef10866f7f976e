"""One entry per verb, named as on the command line: what ``heatproof VERB`` does with models and data."""
