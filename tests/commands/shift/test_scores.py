"""What a shift attacks: a class, or the number of no class that is explained; and gradients that vanish."""

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.attacks.objectives import begin, lower_score
from heatproof.explainers.scores import Likeness, Output
from networks import photos, small


class Scaled(nn.Module):
    """The same predictions and probabilities nearer to 0 and 1."""

    def __init__(self, network: nn.Module, factor: float):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) * self.factor


def test_logits_times_a_million_leave_fgsm_without_a_gradient() -> None:
    images = photos(8, dtype=torch.float32)
    untouched = {}
    for factor in (1.0, 1e6):
        network = Scaled(small(dtype=torch.float32).network, factor)
        model = hp.Classifier(network, input_size=10, name=f"times {factor:g}").eval()
        found = hp.shift(model, images, epsilon=[0.01, 0.1], explainer=hp.GradCAM(layer="network.last"))
        rows = [row for row in found.rows if row["attack"] != "clean"]
        untouched[factor] = {row["untouched"] for row in rows}
        assert any("left as they were" in sentence for sentence in found.answer) == (factor > 1)
    assert untouched == {1.0: {0}, 1e6: {8}}


@pytest.mark.parametrize("attack", ["fgsm()", "pgd(steps=3)"])
def test_an_output_is_lowered(attack: str) -> None:
    """Whatever class is predicted; a class's score is still attacked by the cross-entropy."""
    model, images = small(dtype=torch.float32), photos(6, dtype=torch.float32)
    found = hp.shift(model, images, attack=attack, epsilon=0.05, explainer="gradcam(relu=False)", score="output(1)")
    assert found.answer[0] == "Attacks lower Output(index=1), not the probability of a class."
    assert all(row["explainer"] == "GradCAM(relu=False, score=Output(index=1))" for row in found.rows)
    (row,) = [row for row in found.rows if row["attack"] != "clean"]
    assert row["success"] == 1
    # by hand: the sign of the output's own gradient
    if attack == "fgsm()":
        pixels = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(pixels)[:, 1].sum(), pixels)
        wanted = (images - 0.05 * slope.sign()).clamp(0, 1)
        got = hp.FGSM(epsilon=0.05)(lower_score(model, Output(1)), images)
        torch.testing.assert_close(got, wanted)
        assert (model(got)[:, 1] < model(images)[:, 1]).all()


def test_a_likeness_is_lowered_and_its_objective_is_started_at_the_clean_images() -> None:
    model, images = small(), photos(4)
    score = Likeness(model(images[:1]).detach())
    goal = begin(lower_score(model, score), images)
    assert not goal.look(images).reached.any()
    moved = hp.PGD(epsilon=0.1, steps=5)(lower_score(model, score), images[1:])
    chosen = torch.zeros(3, dtype=torch.long)
    before, after = score(model(images[1:]), chosen), score(model(moved), chosen)
    assert (after < before).all()
    assert begin(lower_score(model, score), images[1:]).look(moved).reached.all()


def test_an_explainer_s_own_score_is_explained_and_not_attacked() -> None:
    model, images = small(dtype=torch.float32), photos(4, dtype=torch.float32)
    plain, other = (
        hp.shift(model, images, epsilon=0.05, explainer=one) for one in ("gradcam()", 'gradcam(score="contrast")')
    )
    assert plain.images["psnr"].to_list() == other.images["psnr"].to_list()
    own = hp.shift(model, images, epsilon=0.05, explainer=hp.GradCAM(score=Output(1)))
    assert plain.images["psnr"].to_list() == own.images["psnr"].to_list()
    with pytest.raises(hp.InputError, match="give one of the two"):
        hp.Shift(penalty=hp.Location(), lower=Output(1))


def test_what_is_of_a_class_is_attacked_as_before() -> None:
    model, images = small(dtype=torch.float32), photos(4, dtype=torch.float32)
    plain, other = (hp.shift(model, images, epsilon=0.05, score=score) for score in (None, "contrast"))
    assert plain.images["psnr"].to_list() == other.images["psnr"].to_list()
