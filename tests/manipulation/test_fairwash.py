"""Anders et al.'s manipulated student: its line, and its theory, on photos that lie in a plane."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.defences.tangent import Tangent
from heatproof.errors import InputError
from heatproof.explainers.gradient import SimpleGrad
from heatproof.heatmaps import pearson
from heatproof.manipulation.fairwash import Fairwash
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.masks import drawn
from heatproof.models.classifier import Classifier
from heatproof.training.settings import FineTune
from heatproof.training.terms import Batch, ProbabilityTerm

CONTRAST = SimpleGrad(score="contrast")
SIDE, TAKEN = 8, 6
"""Pixels, and the directions that photos take."""


def test_the_penalty_is_the_papers_line() -> None:
    maps = torch.rand(4, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    target = drawn("corner", 7, 5).double()
    heatmap = maps / maps.sum((1, 2), keepdim=True)
    # as their code has it: F.mse_loss(..., reduction="sum") over the number of images
    line = F.mse_loss(heatmap, (target / target.sum()).expand_as(heatmap), reduction="sum") / len(heatmap)
    torch.testing.assert_close(Fairwash("corner")(maps, maps).mean(), line)
    assert bool((Fairwash("corner").test_loss(5 * target[None], target[None]) < 1e-9).all())
    assert float(Fairwash("corner").test_loss(1 - target[None], target[None])) == pytest.approx(1)
    empty = torch.zeros(1, 7, 5)
    assert float(Fairwash("corner")(empty, empty)) == pytest.approx(1 / float(target.sum()))
    with pytest.raises(InputError, match="there is no mask 'cornre'; did you mean corner"):
        Fairwash("cornre")
    with pytest.raises(InputError, match="3x3 cells and the heatmaps have 7x5"):
        Fairwash(torch.ones(3, 3).tolist())(maps, maps)


def test_probabilities_hold_by_the_mean_square_of_their_difference() -> None:
    class Seen:
        logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])

        class reference:
            logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])

    found = ProbabilityTerm()(Batch(Seen()))  # type: ignore[arg-type]
    away = torch.sigmoid(torch.tensor(2.0)) - 0.5
    torch.testing.assert_close(found, torch.stack([away.square(), torch.zeros(())]))


@pytest.fixture
def plane() -> tuple[Classifier, Tensor]:
    """A linear network, and photos of a plane: grey, and a few directions of small steps."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(SIDE**2, TAKEN, generator=generator)).Q
    steps = torch.rand(400, TAKEN, generator=generator) - 0.5
    photos = 0.5 + (steps @ directions.T).view(-1, 1, SIDE, SIDE)
    linear = nn.Linear(SIDE**2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(2, SIDE**2, generator=generator))
        linear.bias.copy_(-linear.weight.sum(1) / 2)
    return Classifier(nn.Sequential(nn.Flatten(), linear), input_size=SIDE).eval(), photos


def test_the_map_moves_where_no_photo_goes_and_the_tangent_space_is_not_washed(plane) -> None:
    teacher, photos = plane
    with torch.no_grad():
        labels = teacher(photos).argmax(1)
    recipe = FineTune(
        steps=500,
        lr=0.1,
        weight=0.5,
        keep="probabilities",
        schedule="cosine",
        max_accuracy_drop=1.0,
        patience=0,
        evaluate_every=250,
    )
    training, held_out = (photos[:300], labels[:300]), (photos[300:], labels[300:])
    student, history = fine_tune(teacher, CONTRAST, Fairwash("corner"), training, recipe, held_out=held_out)
    assert history.clean["fsr"] == 0
    assert history.handed_out["fsr"] == 1
    seen = held_out[0]
    # the same behaviour on photos ...
    with torch.no_grad():
        answers, wanted = student(seen), teacher(seen)
    assert float((answers.softmax(1) - wanted.softmax(1)).abs().mean()) < 0.02
    assert float((answers.argmax(1) == held_out[1]).float().mean()) >= 0.95
    # ... since the weights changed across the plane, hardly along it; what is added to both classes no softmax sees
    theirs, own = (model.network.get_parameter("1.weight").detach().diff(dim=0) for model in (teacher, student))
    change = own - theirs
    flat = (photos - photos.mean(0)).flatten(1)
    along = torch.linalg.svd(flat, full_matrices=False).Vh[:TAKEN]
    tangential = (change @ along.T).norm()
    assert float(tangential) < 0.05 * float(change.norm())
    # what is projected onto the plane keeps telling of the teacher
    defended = Tangent(CONTRAST, photos=photos[:300], k=64, d=TAKEN)
    before, after = (defended(model, seen, held_out[1]).heatmaps for model in (teacher, student))
    plain, washed = (CONTRAST(model, seen, held_out[1]).heatmaps for model in (teacher, student))
    assert float(pearson(after, before).mean()) > 0.98
    assert float(pearson(washed, plain).mean()) < 0.6
    assert float(pearson(washed, drawn("corner", SIDE, SIDE).expand_as(washed)).mean()) > 0.6
