"""The live page: one photo, its map and the answer while sliders move; served to this machine alone."""
