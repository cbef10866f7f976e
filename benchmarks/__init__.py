"""Speed and memory against the peers: ``make bench``, or ``python -m benchmarks explain`` for one stage."""
