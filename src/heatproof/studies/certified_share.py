"""How many cells of a heatmap can be certified, against the radius within which the certificate holds.

The same noisy maps are counted for every radius: a larger one asks that more of them agree.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heatproof.commands.photos import open_photos
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.defences.certified_pixels import CertifiedPixels, votes_needed
from heatproof.defences.contrast import OneSided
from heatproof.errors import InputError, did_you_mean
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.explainers.lrp.propagation import LRP
from heatproof.models.hardware import Hardware
from heatproof.models.loading import load
from heatproof.report.plots import Curve, curve_of, curves
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.results.table import SummaryRow, summarise
from heatproof.studies.shared import named
from heatproof.types import Explainer, Heatmaps, settings

EXPLAINERS: Mapping[str, Explainer] = {
    "gradcam": GradCAM(),
    "lrp": OneSided(LRP(), side="positive"),
    "simple_grad": SimpleGrad(),
}


@settings
class CertifiedShare:
    """Explainer x radius: share of cells certified to be among the highest, or not to be.

    A cell is certified at R = sigma Phi^-1(tau) where a binomial test finds that more than tau of all noisy maps agree
    on it, at alpha over all cells of the photo.

    **Source** Anani et al. 2025, who draw this share (of pixels) against the radius.

    Args:
        models: as ``--model`` takes them; ``shared:`` lies in the shared folder.
        data: photos.
        photos: so many, evenly spread over the data.
        explainers: of :data:`EXPLAINERS`; LRP's positive side, for a certificate is of maps without a sign.
        sigma: of the noise, in pixel units of [0, 1].
        n: noisy copies of each photo.
        top: share of cells that count as the highest.
        taus: shares of noisy maps that must agree, in [0.5, 1).
        alpha: how often at most a photo's certificates are wrong.
        seed: of the noise.
    """

    models: tuple[str, ...] = ("shared:weights/zoo.py:squeezenet1_1",)
    data: str = "shared:data/imagenet-val/labels.csv"
    photos: int = 16
    explainers: tuple[str, ...] = ("gradcam", "lrp", "simple_grad")
    sigma: float = 0.15
    n: int = 100
    top: float = 0.25
    taus: tuple[float, ...] = (0.55, 0.65, 0.75, 0.85)
    alpha: float = 0.001
    seed: int = 0
    columns = {  # noqa: RUF012 (a constant of the class, no field)
        "network": "network",
        "explainer": "explainer",
        "tau": "tau",
        "radius": "radius",
        "certified": "certified",
        "highest": "certified highest",
    }
    presets = {  # noqa: RUF012
        "demo": {"models": ("demo",), "data": "demo", "photos": 4, "n": 60, "taus": (0.6, 0.75)},
    }

    def __post_init__(self) -> None:
        if self.photos < 1:
            raise InputError(f"at least one photo is asked about, got photos={self.photos}")
        if not self.taus or not self.models or not self.explainers:
            raise InputError("at least one tau, one model and one explainer are needed")
        for name in self.explainers:
            if name not in EXPLAINERS:
                raise InputError(f"the study has no {name!r}; {did_you_mean(name, EXPLAINERS)}")
        for tau in self.taus:
            self._defence("gradcam", tau)

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        described, source = [], None
        for name in self.models:
            model = hardware.host(load(named(name)))
            described.append(model_record(model))
            source = open_photos(model, named(self.data), limit=self.photos, seed=self.seed)
            for asked in self.explainers:
                defence = self._defence(asked, self.taus[0])
                for number, batch in enumerate(batches(source, model.preprocessing, 1)):
                    part = f"{model.name}-{asked}-{number:04d}"
                    if run.has_part(part):
                        continue
                    with hardware.autocast():
                        maps = defence(model, hardware.bring(batch.images)).heatmaps
                    shares = certified_shares(maps.cpu().float(), self.n, self.taus, self.alpha)
                    about = {"image": batch.ids[0], "network": model.name, "explainer": asked}
                    radii = ({"tau": tau, "radius": self._defence(asked, tau).radius} for tau in self.taus)
                    run.append_rows(part, [{**about, **row, **share} for row, share in zip(radii, shares, strict=True)])
        assert source is not None
        run.describe(model=described, data=data_record(source))
        table = run.merge(("network", "explainer", "tau", "image"))
        groups = summarise(table, ["network", "explainer", "tau", "radius"], ["certified", "highest"])
        rows = [row.plain() for row in groups]
        answer = [
            f"{row['network']}, {row['explainer']}: {row['certified']:.0%} of the cells are certified within "
            f"{row['radius']:.3f}; {row['highest']:.0%} of all cells are certified to be among the highest"
            for row in rows
        ]
        for line in answer:
            say(line)
        for name in {row["network"]: None for row in rows}:
            draw(
                name, [group for group in groups if group.by["network"] == name], run.path(f"figures/{slug(name)}.png")
            )
        run.write_parquet("images.parquet", table)
        summary = {"answer": answer, "rows": rows, "skipped": source.skipped}
        run.write_json("summary.json", summary)
        return summary

    def _defence(self, name: str, tau: float) -> CertifiedPixels:
        return CertifiedPixels(EXPLAINERS[name], self.n, self.sigma, self.top, tau, self.alpha, seed=self.seed)


def draw(name: str, groups: Sequence[SummaryRow], path: Path) -> None:
    """The shares of one network's explainers against the radius."""
    series: dict[str, Curve] = {}
    for explainer in dict.fromkeys(group.by["explainer"] for group in groups):
        own = sorted((g for g in groups if g.by["explainer"] == explainer), key=lambda g: g.by["radius"])
        series[explainer] = curve_of([g.by["radius"] for g in own], [g.means["certified"] for g in own])
    curves(
        series,
        path,
        title=name,
        xlabel="radius of the certificate, l2 over pixels in [0, 1]",
        ylabel="share of cells certified, up is better",
        ylim=(0, 1),
    )


def certified_shares(votes: Heatmaps, n: int, taus: Sequence[float], alpha: float) -> list[dict[str, float]]:
    """Of one photo's votes, for each tau the share of cells that are certified, and of those certified as highest.

    Args:
        votes: share of the n noisy maps that have the cell among their highest.

    Raises:
        InputError: n is too small for a tau; says how many are needed.

    >>> import torch
    >>> certified_shares(torch.tensor([[[1.0, 0.5], [0.0, 0.0]]]), 100, [0.75], 0.001)
    [{'certified': 0.75, 'highest': 0.25}]
    """
    count, shares = (votes * n).round(), []
    for tau in taus:
        least = votes_needed(n, tau, alpha, count[0].numel())
        highest, others = (count >= least).double().mean(), (n - count >= least).double().mean()
        shares.append({"certified": float(highest + others), "highest": float(highest)})
    return shares
