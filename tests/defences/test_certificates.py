"""Certificates: their numbers by the papers' lines, closed forms, and attacks inside the radius that must not break."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from heatproof import catalog, spec
from heatproof.attacks.gradient import PGD
from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.defences.certified_pixels import CertifiedPixels, votes_needed
from heatproof.defences.noisy import answered, noisy_maps
from heatproof.defences.sparsified import Sparsified, certified_overlap, sparsify
from heatproof.errors import InputError
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.gradient import SimpleGrad
from heatproof.heatmaps import topk_mask
from heatproof.models.classifier import Classifier
from heatproof.models.loading import load
from heatproof.types import Certificate, Explainer, Explanation, Heatmaps, Images, redrawn, settings
from networks import small


def levine(k: int, x: np.ndarray, l2: float, stddev: float, eta: float, n_samples: int) -> float:
    """The authors' certificate, line by line, in NumPy."""
    flat = np.sort(x.reshape(-1))[::-1]
    err = np.sqrt(np.log(2 * flat.size / (1 - eta)) / (2 * n_samples))
    up, down = flat[:k], flat[k : 2 * k][::-1]
    held = scipy.stats.norm.cdf(scipy.stats.norm.ppf(up - err) - 2 * l2 / stddev) - err
    return float((held > down).sum()) / k


def test_certified_overlap_is_the_authors_line() -> None:
    maps = torch.rand(20, 6, 6, generator=torch.Generator().manual_seed(0)).double() ** 4
    for radius in (0.0, 0.05, 0.3):
        asked = {"n": 5000, "sigma": 0.25, "radius": radius, "confidence": 0.9}
        found = certified_overlap(maps, top=7, **asked)  # type: ignore[arg-type]
        with np.errstate(invalid="ignore"):  # theirs has no number where x - err is below 0: certified is nothing
            wanted = [levine(7, one.numpy(), radius, 0.25, 0.9, 5000) for one in maps]
        np.testing.assert_allclose(found, wanted)
    assert 0 < float(certified_overlap(maps, top=7, n=5000, sigma=0.25, radius=0.05, confidence=0.9).mean()) < 1


def test_sparsify_by_hand() -> None:
    cells = torch.tensor([[[8.0, 6.0, 4.0, 2.0], [1.0, 0.5, 0.2, 0.1]]])
    torch.testing.assert_close(
        sparsify(cells, 0.5, 0.25), torch.tensor([[[1.0, 1.0, 4 / 6, 2 / 6], [0.0, 0.0, 0.0, 0.0]]])
    )
    torch.testing.assert_close(sparsify(torch.zeros(1, 2, 2), 0.5, 0.25), torch.zeros(1, 2, 2))


@settings
class Lever:
    """Two cells, of which the first is the higher where the image's mean is above a half: all is known in closed form.

    Under Gaussian noise of standard deviation sigma, the first wins with probability Phi(distance / sigma), where
    distance is the l2 way from the image to mean 1/2.
    """

    signed = False

    def __call__(self, model, images, targets=None, *, create_graph=False):
        lead = (images.flatten(1).mean(1) - 0.5) * 8
        first = (lead * 5).sigmoid() if create_graph else (lead > 0).to(images.dtype)
        maps = torch.stack([0.1 + first, 1.1 - first], 1)[:, None]
        return Explanation(maps, torch.zeros(len(images), 2), torch.zeros(len(images)).long())


def at_distances(distances: Tensor, size: int = 4) -> Images:
    """Grey images whose l2 distance from mean 1/2 is given."""
    return (0.5 + distances / (3 * size * size) ** 0.5)[:, None, None, None].expand(-1, 3, size, size)


def test_a_certified_cell_cannot_be_turned_within_the_radius_in_closed_form() -> None:
    defence = CertifiedPixels(Lever(), n=2000, sigma=0.1, top=0.5, tau=0.75, alpha=0.01)
    distances = torch.linspace(-0.2, 0.2, 81)
    images = at_distances(distances)
    found = defence(small(size=4, dtype=torch.float32), images)
    assert found.certificate is not None
    cells = found.certificate.cells
    assert cells is not None
    certified = cells[:, 0, 0] != 0
    radius = found.certificate.radius
    assert radius == pytest.approx(0.1 * scipy.stats.norm.ppf(0.75))
    # the majority turns where the mean crosses a half, so nothing nearer than the radius may be certified
    assert float(distances[certified].abs().min()) >= radius
    # and what is well outside is
    assert certified[distances.abs() > 1.3 * radius].all()
    torch.testing.assert_close(cells[:, 0, 0], -cells[:, 0, 1])
    assert (cells[certified][:, 0, 0] == distances[certified].sign()).all()
    torch.testing.assert_close(found.certificate.share, certified.double())


def test_the_overlap_of_a_lever_is_certified_up_to_where_it_turns_and_not_beyond() -> None:
    model = small(size=4, dtype=torch.float32)
    for radius in (0.02, 0.06):
        defence = Sparsified(Lever(), n=4000, sigma=0.1, keep=0.5, flat=0.5, top=0.5, radius=radius)
        distances = torch.linspace(0.0, 0.2, 41)
        found = defence(model, at_distances(distances))
        assert found.certificate is not None
        assert found.certificate.cells is None
        certified = found.certificate.share > 0
        assert float(distances[certified].min()) >= radius
        assert certified[distances > radius + 0.03].all()


def test_a_certificate_that_forgets_the_error_would_be_found_out() -> None:
    """The closed form is a test that can fail: at the border of the radius, votes without a test are certified."""
    model, images = small(size=4, dtype=torch.float32), at_distances(torch.full((200,), 0.062))
    noisy = torch.stack(
        [
            redrawn(CertifiedPixels(Lever(), n=60, sigma=0.1, top=0.5), seed)(model, images[:1]).heatmaps
            for seed in range(1, 60)
        ]
    )
    # Phi(0.62) = 0.732 < tau = 0.75: half of the plain shares of votes exceed tau all the same
    assert (noisy[:, 0, 0, 0] > 0.75).float().mean() > 0.2
    sure = [
        redrawn(CertifiedPixels(Lever(), n=60, sigma=0.1, top=0.5, alpha=0.05), seed)(model, images[:1])
        for seed in range(1, 60)
    ]
    # with the test hardly ever: at most as often as alpha says
    wrong = sum(float(one.certificate.share.max()) > 0 for one in sure)  # type: ignore[union-attr]
    assert wrong <= 0.05 * len(sure)


def test_votes_are_counted_as_they_are_cast() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(3, 3, 10, 10, generator=generator).double()
    model = small()
    defence = CertifiedPixels(SimpleGrad(), n=30, sigma=0.05, top=0.2, tau=0.5, alpha=0.2, seed=9)
    found = defence(model, images)
    generator = torch.Generator().manual_seed(9)
    count = torch.zeros(3, 10, 10).double()
    for _ in range(30):
        noisy = (images + 0.05 * torch.randn(3, 10, 10, generator=generator)).clamp(0, 1)
        count += topk_mask(SimpleGrad()(model, noisy, found.targets).heatmaps, 0.2)
    torch.testing.assert_close(found.heatmaps, count / 30)
    assert found.certificate is not None
    assert found.certificate.cells is not None
    for votes, cell in zip(count.flatten().tolist(), found.certificate.cells.flatten().tolist(), strict=True):
        for said, how in ((1, votes), (-1, 30 - votes)):
            p = scipy.stats.binomtest(int(how), 30, 0.5, alternative="greater").pvalue
            assert (cell == said) == (p <= 0.2 / 200)


def test_a_cell_of_nothing_is_never_voted_for() -> None:
    model = small()
    found = CertifiedPixels(Nothing(), n=30, tau=0.5, alpha=0.1)(model, torch.full((1, 3, 10, 10), 0.5).double())
    assert not found.heatmaps.any()
    assert found.certificate is not None
    assert (found.certificate.cells == -1).all()  # type: ignore[union-attr]


@settings
class Nothing:
    """Empty maps."""

    signed = False

    def __call__(self, model, images, targets=None, *, create_graph=False):
        return Explanation(images[:, 0] * 0, torch.zeros(len(images), 2), torch.zeros(len(images)).long())


def test_the_surrogate_has_the_values_of_the_votes_and_a_slope() -> None:
    model, images = small(), torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(1)).double()
    hard = CertifiedPixels(SimpleGrad(), n=20, tau=0.5, alpha=0.2)
    soft = CertifiedPixels(SimpleGrad(), n=20, tau=0.5, alpha=0.2, surrogate=True)
    images = images.requires_grad_()
    found = soft(model, images, create_graph=True)
    torch.testing.assert_close(found.heatmaps.detach(), hard(model, images.detach()).heatmaps)
    (slope,) = torch.autograd.grad(found.heatmaps[:, :3].sum(), images)
    assert slope.abs().sum() > 0
    with pytest.raises(InputError, match=r"votes, which have no derivative .* surrogate=True"):
        hard(model, images, create_graph=True)
    assert redrawn(hard, 0) == soft


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sparsified(lrp())", r"those of LRP\(\) are signed; say which side: sparsified\(one_sided\(LRP\(\), side="),
        ("certified_pixels(smoothed(gradcam(relu=False)))", "are signed; say which side"),
        ("certified_pixels(sigma=0)", "certified_pixels needs noise"),
        ("sparsified(sigma=0)", "sparsified needs noise"),
        ("certified_pixels(tau=0.4)", r"must lie in \[0.5, 1\), got 0.4"),
        ("certified_pixels(alpha=1)", r"alpha must lie in \(0, 1\), got 1"),
        ("certified_pixels(top=0)", r"must lie in \(0, 1\), got 0"),
        ("sparsified(keep=0.1, flat=0.2)", "0 < flat <= keep <= 1 was expected"),
        ("sparsified(top=0.6)", r"must lie in \(0, 0.5\], got 0.6"),
        ("sparsified(confidence=1)", "the confidence must lie"),
        ("sparsified(radius=-1)", "radius must not be negative"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        spec.build(text, catalog.EXPLAINERS, "explainer")


def test_too_few_copies_are_refused_with_the_number_needed() -> None:
    model, images = small(), torch.full((1, 3, 10, 10), 0.5).double()
    with pytest.raises(InputError, match=r"of 100 cells at alpha=0.001 and tau=0.75, .* at least 43 are needed"):
        CertifiedPixels(SimpleGrad(), n=42)(model, images)
    assert CertifiedPixels(SimpleGrad(), n=43)(model, images).certificate is not None
    assert 0.75**43 <= 0.001 / 200 < 0.75**42
    assert votes_needed(43, 0.75, 0.001, 100) == 43
    with pytest.raises(InputError, match=r"certify nothing of a map of 100 cells at confidence 0.95: at least 17 are"):
        Sparsified(SimpleGrad(), n=16)(model, images)
    ones, zeros = torch.ones(1, 5, 10), torch.zeros(1, 5, 10)
    ideal = torch.cat([ones, zeros], 1)
    for n, held in ((16, 0), (17, 1)):
        share = certified_overlap(ideal, top=50, n=n, sigma=1, radius=0, confidence=0.95)
        assert float(share) == held


# what follows attacks real certificates: climb what would break them, then count anew with fresh noise


def broken(
    defence: Sparsified | CertifiedPixels, model, images: Images, seed: int, *, judges: int, beyond: float = 1.0
) -> int:
    """How many certificates of these images an attack inside the radius breaks, beyond what chance could explain.

    Args:
        judges: noisy maps that count anew.
        beyond: the attack goes so many radii far.
    """
    found = defence(model, images)
    certificate = found.certificate
    assert certificate is not None
    aimed = _aimed(found.heatmaps, certificate, seed)
    climbed = dataclasses.replace(redrawn(defence, 1 + seed), n=40)

    def objective(points: Images) -> Tensor:
        maps = climbed(model, points, found.targets, create_graph=torch.is_grad_enabled()).heatmaps
        return -(maps * aimed).sum((1, 2))

    radius = beyond * certificate.radius
    moved = PGD(epsilon=0.999 * radius, steps=3, norm="l2", seed=seed, keep="last")(objective, images)
    assert (moved - images).flatten(1).norm(dim=1).max() <= radius
    share = _share_for(defence, model, moved, found.targets, judges, seed)
    # each cell's share is off by more once in ten thousand times
    off = math.sqrt(math.log(2 * 10_000 * share[0].numel()) / (2 * judges))
    if certificate.cells is not None:
        lost = (certificate.cells == 1) & (share + off < 0.5) | (certificate.cells == -1) & (share - off > 0.5)
        return int(lost.flatten(1).any(1).sum())
    assert isinstance(defence, Sparsified)
    before = topk_mask(found.heatmaps, defence.top)
    # as many of the highest cells stay as can, given what is known
    kept = (topk_mask(share + 2 * off * before, defence.top) & before).sum((1, 2))
    return int((kept < (certificate.share * before[0].sum()).round()).sum())


def _aimed(heatmaps: Heatmaps, certificate: Certificate, seed: int) -> Heatmaps:
    """What the attack lowers (1) and raises (-1): of certified cells a few, else the highest against the next."""
    if certificate.cells is not None:
        draw = torch.rand(heatmaps.shape, generator=torch.Generator().manual_seed(seed)).to(heatmaps)
        return certificate.cells * ((draw < 0.3) | (draw[0].numel() < 4))
    return topk_mask(heatmaps, 0.1).to(heatmaps) - (topk_mask(heatmaps, 0.2) & ~topk_mask(heatmaps, 0.1)).to(heatmaps)


def _share_for(defence, model, images: Images, targets, judges: int, seed: int) -> Heatmaps:
    given = answered(model, images, targets, create_graph=False)
    total = torch.zeros((), dtype=images.dtype)
    many = dataclasses.replace(defence, n=judges, seed=100_000 + seed, at_once=512)
    for maps in noisy_maps(many, model, given, "gaussian", create_graph=False):
        flat = maps.flatten(0, 1)
        if isinstance(defence, CertifiedPixels):
            voted = (topk_mask(flat, defence.top) & (flat > 0)).to(flat)
        else:
            voted = sparsify(flat, defence.keep, defence.flat)
        total = total + voted.view(maps.shape).sum(1) / judges
    return total


def scenes(model: Classifier, count: int) -> Images:
    source = open_data("demo", classes=model.classes, limit=count, labels=False, preprocessing=model.preprocessing)
    return next(iter(batches(source, model.preprocessing, count))).images


def defences(explainer: Explainer, n: int) -> list[Sparsified | CertifiedPixels]:
    return [
        CertifiedPixels(explainer, n=60, sigma=0.2, tau=0.6, alpha=0.05),
        Sparsified(explainer, n=n, sigma=0.2, top=0.25, radius=0.02, confidence=0.9),
    ]


@pytest.mark.parametrize("defence", defences(GradCAM(), 200), ids=lambda one: type(one).__name__)
def test_no_certificate_is_broken_on_the_demo(defence) -> None:
    model = load("demo")
    images = scenes(model, 3)
    certificate = defence(model, images).certificate
    assert float(certificate.share.mean()) > 0.05, "nothing was certified, so nothing could break"
    assert broken(defence, model, images, 0, judges=300) == 0


@pytest.mark.parametrize(
    "defence",
    [
        CertifiedPixels(Lever(), n=400, sigma=0.1, top=0.5, tau=0.6, alpha=0.05),
        Sparsified(Lever(), n=4000, sigma=0.1, keep=1.0, flat=0.5, top=0.5, radius=0.02, confidence=0.9),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_attack_breaks_a_certificate_that_claims_too_much(defence) -> None:
    """The planted fault: a map that turns at distance 0.06 is certified to 0.02, and the attack goes to 0.12."""
    model, images = small(size=4, dtype=torch.float32), at_distances(torch.tensor([0.06, 0.06, 0.06]))
    certificate = defence(model, images).certificate
    assert (certificate.share == 1).all()
    assert broken(defence, model, images, 0, judges=400) == 0
    assert broken(defence, model, images, 0, judges=400, beyond=0.12 / certificate.radius) == 3


@pytest.mark.slow
@pytest.mark.parametrize("defence", defences(SimpleGrad(), 500), ids=lambda one: type(one).__name__)
def test_no_certificate_is_broken_by_a_thousand_trials(defence) -> None:
    model = small(size=16, dtype=torch.float32)
    images = scenes(model, 50)
    certificate = defence(model, images).certificate
    # gradients of a small network under 500 copies: few cells, but on most photos some
    assert float(certificate.share.mean()) > 0.02, "nothing was certified, so nothing could break"
    assert float((certificate.share > 0).double().mean()) > 0.5
    for trial in range(20):
        assert broken(defence, model, images, trial, judges=200) == 0
