"""The verbs from Python: one line in, an answer out; a run folder only where one is asked for."""
