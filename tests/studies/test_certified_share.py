"""The study of certified cells: its shares are the defence's own certificates, and it goes on where it was stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch

import heatproof as hp
from heatproof.data.scenes import scenes
from heatproof.defences.certified_pixels import CertifiedPixels
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.results.run import Run
from heatproof.studies.certified_share import CertifiedShare, certified_shares

SMALL: dict[str, Any] = {**CertifiedShare.presets["demo"], "explainers": ("gradcam",)}


def test_shares_are_those_of_the_certificates() -> None:
    """One count of votes gives what a defence of its own gives for each tau."""
    model, image = hp.load("demo"), scenes(1, seed=3).images
    taus = (0.55, 0.75)
    defences = [CertifiedPixels(GradCAM(), n=100, sigma=0.15, tau=tau) for tau in taus]
    votes = defences[0](model, image).heatmaps
    for defence, share in zip(defences, certified_shares(votes, 100, taus, 0.001), strict=True):
        certificate = defence(model, image).certificate
        assert certificate is not None
        assert share["certified"] == pytest.approx(float(certificate.share), abs=1e-9)
        assert share["highest"] == pytest.approx(float((certificate.cells == 1).double().mean()), abs=1e-9)


def test_a_larger_radius_certifies_less() -> None:
    votes = torch.linspace(0, 1, 64).view(1, 8, 8)
    shares = [row["certified"] for row in certified_shares(votes, 200, (0.5, 0.6, 0.7, 0.8, 0.9), 0.001)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_the_study_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", command="study", settings={"study": "certified-share"}) as run:
        summary = CertifiedShare(**SMALL)(run, say=lambda text: None)
    assert [(row["tau"], row["count"]) for row in summary["rows"]] == [(0.6, 4), (0.75, 4)]
    small, large = summary["rows"]
    assert 0 < small["radius"] < large["radius"]
    assert 1 >= small["certified"] >= large["certified"] >= large["highest"] >= 0
    assert small["certified"] > 0
    with Run.start(tmp_path / "run", command="study", settings={"study": "certified-share"}) as run:
        again = CertifiedShare(**SMALL)(run, say=lambda text: None)
    assert again["rows"] == summary["rows"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"photos": 0}, "at least one photo"),
        ({"taus": ()}, "at least one tau"),
        ({"taus": (0.4,)}, "must lie in"),
        ({"explainers": ("gradcm",)}, "did you mean gradcam"),
        ({"sigma": 0.0}, "sigma"),
    ],
)
def test_what_it_refuses(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        CertifiedShare(**asked)


def test_too_few_copies_are_told_with_how_many_are_needed(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"at least [0-9]+ are needed"),
        Run.start(tmp_path / "run", command="study", settings={"study": "certified-share"}) as run,
    ):
        CertifiedShare(**{**SMALL, "n": 10})(run, say=lambda text: None)
