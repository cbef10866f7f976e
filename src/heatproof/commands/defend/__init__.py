"""Train a network so that its heatmaps hold still: run, measure, figures."""
