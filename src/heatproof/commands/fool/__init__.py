"""``heatproof fool``: make a network lie about what it looks at."""
