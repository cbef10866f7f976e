"""Thresholds of one's own: honest models, audited on the same photos."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from heatproof.commands.audit.measure import Audit
from heatproof.commands.audit.numbers import known, numbers
from heatproof.commands.audit.run import read_audit, run_audit
from heatproof.commands.audit.scope import network_cells, network_layout
from heatproof.commands.audit.verdict import CALIBRATING, FEWEST, Thresholds, calibrate
from heatproof.data.sources import Source
from heatproof.errors import InputError
from heatproof.models.classifier import Classifier, fingerprint
from heatproof.models.hardware import Hardware
from heatproof.results.run import Run


def run_calibration(
    settings: Audit,
    honest: Sequence[Classifier],
    source: Source,
    run: Run,
    *,
    hardware: Hardware = Hardware(),
    advance: Callable[[float], None] = lambda count: None,
) -> Thresholds:
    """Thresholds from honest models on the same photos, also in ``thresholds.json``; each audit is kept and resumed.

    Raises:
        InputError: fewer than three models, or fewer than ten photos.
    """
    if len(honest) < CALIBRATING:
        raise InputError(f"--calibrate needs at least {CALIBRATING} honest models, got {len(honest)}")
    if len(source) < FEWEST:
        raise InputError(f"thresholds need at least {FEWEST} photos, got {len(source)}")
    means, trusts = [], []
    for place, model in enumerate(honest):
        folder = run.path(f"calibration/{place:03d}")
        # as 0.1 wrote them, whose runs are resumed
        record = {"asked": settings, "data": source.name, "count": len(source)}
        with Run.start(folder, command="audit", settings=record, seed=settings.seed) as own:
            if not own.done:
                empty = Thresholds({}, None, {})
                run_audit(
                    settings, model, source, own, thresholds=empty, draw=False, hardware=hardware, advance=advance
                )
            table, tensors = read_audit(folder)
        values = ((name, known(found)) for name, found in numbers(table, tensors))
        means.append({name: float(np.mean(found)) if found else None for name, found in values})
        trusts += table["trust"].drop_nulls().to_list()
    provenance = {"networks": [f"{m.name} {fingerprint(m)[:12]}" for m in honest], "data": source.name}
    provenance |= {"photos": len(source), "explainer": repr(settings.explainer), "budget": settings.budget}
    provenance |= {"sizes": dict(Counter(str(max(model.input_shape)) for model in honest))}
    for key, kind in (("layouts", network_layout), ("cells", network_cells)):
        provenance |= {key: sorted({own for model in honest if (own := kind(settings.explainer, model))})}
    thresholds = calibrate(means, trusts, provenance)
    run.write_json("thresholds.json", thresholds.plain())
    return thresholds
