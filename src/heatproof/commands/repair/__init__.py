"""Take the lie out of a checkpoint: run, measure, figures."""
