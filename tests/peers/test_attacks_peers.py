"""torchattacks, foolbox and captum give the same adversarial images from one start; so does the adapter."""

import warnings

import pytest
import torch
from torch import nn

from heatproof.attacks.balls import check_inside
from heatproof.attacks.foreign import Foreign
from heatproof.attacks.gradient import FGSM, PGD
from heatproof.attacks.objectives import misclassify, reach
from heatproof.errors import InputError, SpecError
from heatproof.models.classifier import Classifier

# captum remarks on its own input each time
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")]
SAME = {"rtol": 0, "atol": 1e-6}
EPSILON, STEP, STEPS = 0.03, 0.008, 7


@pytest.fixture
def model() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 13 * 13, 5),
        )
    return Classifier(network, (0.5,) * 3, (0.25,) * 3, input_size=32).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3])


def ours(norm):
    step = STEP if norm == "linf" else 0.2
    epsilon = EPSILON if norm == "linf" else 1.0
    return PGD(epsilon, STEPS, norm, step_size=step, random_start=False, keep="last")


def theirs(library):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(library)


def test_fgsm(model, images, labels):
    expected = FGSM(EPSILON)(misclassify(model, labels), images)
    torchattacks, foolbox, captum = theirs("torchattacks"), theirs("foolbox"), theirs("captum.robust")
    torch.testing.assert_close(torchattacks.FGSM(model, eps=EPSILON)(images, labels), expected, **SAME)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    clipped = foolbox.attacks.FGSM(random_start=False)(wrapped, images, labels, epsilons=EPSILON)[1]
    torch.testing.assert_close(clipped, expected, **SAME)
    loss = nn.CrossEntropyLoss(reduction="none")
    attack = captum.FGSM(model, lambda logits, target: loss(logits, target), lower_bound=0.0, upper_bound=1.0)
    attack.zero_thresh = 0  # captum takes gradients below 1e-6 for zero
    torch.testing.assert_close(attack.perturb(images, EPSILON, labels), expected, **SAME)


def test_targeted_fgsm(model, images, labels):
    wanted = (labels + 1) % 5
    expected = FGSM(EPSILON)(reach(model, wanted), images)
    attack = theirs("torchattacks").FGSM(model, eps=EPSILON)
    attack.set_mode_targeted_by_label(quiet=True)
    torch.testing.assert_close(attack(images, wanted), expected, **SAME)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd(model, images, labels, norm):
    attack = ours(norm)
    expected = attack(misclassify(model, labels), images)
    torchattacks, foolbox, captum = theirs("torchattacks"), theirs("foolbox"), theirs("captum.robust")
    kind = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    options = {"eps": attack.epsilon, "alpha": attack.step_size, "steps": STEPS, "random_start": False}
    torch.testing.assert_close(kind(model, **options)(images, labels), expected, **SAME)
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    options = {"rel_stepsize": None, "abs_stepsize": attack.step_size, "steps": STEPS, "random_start": False}
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    clipped = kind(**options)(wrapped, images, labels, epsilons=attack.epsilon)[1]
    torch.testing.assert_close(clipped, expected, **SAME)
    if norm == "linf":
        loss = nn.CrossEntropyLoss(reduction="none")
        attack = captum.PGD(model, lambda logits, target: loss(logits, target), lower_bound=0.0, upper_bound=1.0)
        attack.fgsm.zero_thresh = 0
        found = attack.perturb(images, EPSILON, STEP, STEPS, labels, norm="Linf")
        torch.testing.assert_close(found, expected, **SAME)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torchattacks.PGD", (("alpha", STEP), ("steps", STEPS), ("random_start", False))),
        (
            "foolbox.LinfPGD",
            (("rel_stepsize", None), ("abs_stepsize", STEP), ("steps", STEPS), ("random_start", False)),
        ),
    ],
)
def test_the_adapter_stands_in_for_ours(model, images, labels, name, options):
    foreign = Foreign(name, EPSILON, options=options)
    for goal in (misclassify(model, labels), reach(model, (labels + 1) % 5)):
        torch.testing.assert_close(foreign(goal, images), ours("linf")(goal, images), **SAME)


@pytest.mark.parametrize("name", ["torchattacks.PGD", "foolbox.LinfPGD"])
def test_the_adapter_carries_the_seed_and_leaves_everything_else_alone(model, images, labels, name):
    model.train()
    model.network[0].weight.requires_grad_(False)
    goal, state = misclassify(model, labels), torch.random.get_rng_state()
    first = Foreign(name, EPSILON)(goal, images)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(Foreign(name, EPSILON)(goal, images), first)
    assert not torch.equal(Foreign(name, EPSILON, seed=1)(goal, images), first)
    check_inside(first, images, EPSILON)
    assert all(module.training for module in model.modules())
    assert not model.network[0].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(Foreign(name, 0.0)(goal, images), images)


def test_a_foreign_attack_that_leaves_the_ball_is_stopped(model, images, labels):
    with pytest.raises(InputError, match="left its l2 ball"):
        Foreign("torchattacks.PGD", EPSILON, norm="l2")(misclassify(model, labels), images)


def test_what_a_foreign_attack_cannot_do_is_named(model, images, labels):
    with pytest.raises(SpecError, match="did you mean PGD"):
        Foreign("torchattacks.PDG")(misclassify(model, labels), images)
    with pytest.raises(SpecError, match=r"torchattacks\.NAME or foolbox\.NAME"):
        Foreign("art.PGD")(misclassify(model, labels), images)
    with pytest.raises(InputError, match="misclassify"):
        Foreign("torchattacks.PGD")(lambda x: x.flatten(1).sum(1), images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_autoattack_through_the_adapter(model, images, norm):
    """Croce and Hein's ensemble, as it is called by itself with the same arguments."""
    # wide enough that its last member, thousands of queries of every photo that is left, has nothing to do
    epsilon = {"linf": 0.03, "l2": 1.0}[norm]
    with torch.no_grad():
        labels = model(images).argmax(1)
    attack = Foreign("torchattacks.AutoAttack", epsilon, norm=norm, seed=3)
    found = attack(misclassify(model, labels), images)
    check_inside(found, images, epsilon, norm)
    assert bool((model(found).argmax(1) != labels).all())
    theirs_of = theirs("torchattacks").AutoAttack
    with torch.random.fork_rng():
        alone = theirs_of(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, n_classes=5, seed=3)
        torch.testing.assert_close(found, alone(images, labels), **SAME)
    # whose seed is the clock where none is given
    assert torch.equal(attack(misclassify(model, labels), images), found)


def test_an_attack_without_a_targeted_form_says_so(model, images, labels):
    with pytest.raises(InputError, match="AutoAttack has no targeted form"):
        Foreign("torchattacks.AutoAttack", EPSILON)(reach(model, labels), images)


def test_an_attack_of_foolbox_that_is_none_of_ours(model, images):
    foolbox = theirs("foolbox")
    with torch.no_grad():
        labels = model(images).argmax(1)
    goal = misclassify(model, labels)
    found = Foreign("foolbox.LinfDeepFoolAttack", EPSILON)(goal, images)
    check_inside(found, images, EPSILON)
    assert bool((model(found).argmax(1) != labels).all())
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    alone = foolbox.attacks.LinfDeepFoolAttack()(wrapped, images, labels, epsilons=EPSILON)[1]
    torch.testing.assert_close(found, alone, **SAME)
