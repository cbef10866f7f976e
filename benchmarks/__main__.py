"""``python -m benchmarks [STAGE]...``: every stage's table, or those named."""

import importlib
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
STAGES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "__main__", "timing"))

for stage in sys.argv[1:] or STAGES:
    if stage not in STAGES:
        sys.exit(f"there is no benchmark {stage!r}; there are: {', '.join(STAGES)}")
    importlib.import_module(f"benchmarks.{stage}").main()
