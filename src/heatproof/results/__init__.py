"""What a command leaves behind: the run folder, the table of images and its summary.

``run`` writes the folder, ``reading`` reads it back as far as it is whole, ``table`` makes summary rows with intervals,
``viewer`` keeps small pictures and maps for the report's viewer.
"""

from heatproof.results.reading import RunFiles, read_run
from heatproof.results.run import Run
from heatproof.results.table import Interval, Mean, PairedTest, SummaryRow, interval, paired_test, summarise
from heatproof.results.viewer import View, add_view
from heatproof.results.whole import write_json, write_whole

__all__ = [
    "Interval",
    "Mean",
    "PairedTest",
    "Run",
    "RunFiles",
    "SummaryRow",
    "View",
    "add_view",
    "interval",
    "paired_test",
    "read_run",
    "summarise",
    "write_json",
    "write_whole",
]
