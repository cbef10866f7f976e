"""``python -m heatproof``, also for ``accelerate launch -m heatproof``."""

from heatproof.cli import main

main()
