"""``heatproof compare``: does this model lie? A clean model and fooled ones on the same photos."""
