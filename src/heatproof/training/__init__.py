"""One engine that fine-tunes, for foolings, defences and repair."""
