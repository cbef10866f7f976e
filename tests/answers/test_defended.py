"""hp.explain hands out intervals and certificates, whatever the batches."""

import torch

import heatproof as hp


def test_a_certificate_does_not_depend_on_the_batches() -> None:
    model, photos = hp.load("demo"), torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    votes = hp.CertifiedPixels(n=60, tau=0.6, alpha=0.1)
    whole, parted = (hp.explain(model, photos, explainer=votes, batch_size=size).explanation for size in (3, 2))
    assert whole is not None
    assert parted is not None
    assert whole.certificate is not None
    assert parted.certificate is not None
    assert whole.certificate.cells is not None
    assert parted.certificate.cells is not None
    torch.testing.assert_close(whole.certificate.cells, parted.certificate.cells)
    torch.testing.assert_close(whole.certificate.share, parted.certificate.share)
    assert whole.certificate.radius == parted.certificate.radius == votes.radius


def test_intervals_and_a_picture() -> None:
    model, photos = hp.load("demo"), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = hp.explain(model, photos, explainer="median_of_noisy(n=8, alpha=0.1)", batch_size=1)
    assert found.explanation is not None
    assert found.explanation.interval is not None
    lower, upper, level = found.explanation.interval
    assert (lower <= found.heatmaps).all()
    assert (found.heatmaps <= upper).all()
    assert level == 0.9
    assert found.picture().size[0] > 100
    assert hp.explain(model, photos).explanation.certificate is None  # type: ignore[union-attr]
