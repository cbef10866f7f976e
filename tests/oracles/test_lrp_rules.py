"""Every LRP rule against its equation in matrix form, W read off the layer's Jacobian, over every kind of layer."""

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from heatproof.explainers.lrp import rules
from heatproof.explainers.lrp.affine import Affine, Call, affine

# torch itself pads an even kernel unevenly, and says so
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")
TINY = 1e-9

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 8)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 5, 5)),
    "conv2d, odd stride": (lambda: nn.Conv2d(2, 4, 3, stride=3), (2, 8, 7)),
    "conv2d, dilated, grouped": (lambda: nn.Conv2d(4, 4, 2, dilation=2, groups=2, bias=False), (4, 5, 6)),
    "conv2d, depthwise": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3), (3, 4, 4)),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, 2, padding="same"), (2, 4, 5)),
    "conv2d, reflected": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 5)),
    "conv2d, circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 3, 3)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2), (3, 4)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2), (4, 3, 3)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (3, 3, 4)),
}


class Case:
    """A layer, an input, a relevance, and the layer as a matrix."""

    def __init__(self, name: str, nonnegative: bool):
        make, shape = LAYERS[name]
        torch.manual_seed(0xC0FFEE)
        self.layer = make().double().eval()
        if isinstance(self.layer, nn.BatchNorm2d):
            for value in self.layer.parameters():
                nn.init.normal_(value)
            self.layer.running_mean = torch.randn(3).double()
            self.layer.running_var = torch.rand(3).double() + 0.5
        self.x = torch.randn(2, *shape, dtype=torch.float64)
        if nonnegative:
            self.x = self.x.relu()
        with torch.no_grad():
            self.z = self.layer(self.x)
        self.relevance = torch.randn_like(self.z)
        self.seen: Affine = affine(
            type(self.layer), self.layer, {"input": self.x}, None, name=name, nonnegative=nonnegative
        )
        zero = torch.zeros(shape, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda one: self.layer(one[None])[0], zero)
        self.w = jacobian.reshape(self.z[0].numel(), zero.numel())
        self.b = self.layer(zero[None]).detach().flatten()

    def check(
        self, found: rules.Shares, replica: Callable[[Tensor, Tensor], Tensor], relevance: Tensor | None = None
    ) -> None:
        """``replica(x, relevance)`` on vectors, image by image."""
        assert isinstance(found, Tensor)
        relevance = self.relevance if relevance is None else relevance
        pairs = zip(self.x.flatten(1), relevance.flatten(1), strict=True)
        wanted = torch.stack([replica(x, r) for x, r in pairs]).view_as(self.x)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=[False, True], ids=["signed", "nonnegative"])
def nonnegative(request: pytest.FixtureRequest) -> bool:
    return request.param


@cache
def made(name: str, nonnegative: bool) -> Case:
    return Case(name, nonnegative)


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest, nonnegative: bool) -> Case:
    return made(request.param, nonnegative)


@pytest.fixture(params=[name for name in LAYERS if name != "conv2d, reflected"])
def plain(request: pytest.FixtureRequest, nonnegative: bool) -> Case:
    """Where every cell meets an output once: the Jacobian adds the two weights of a reflected cell, of either sign."""
    return made(request.param, nonnegative)


def sign(z: Tensor) -> Tensor:
    return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)


def test_the_view_of_the_layer(case: Case) -> None:
    with torch.no_grad():
        torch.testing.assert_close(case.seen.output(case.x), case.z)
        back = case.seen.transpose(case.relevance, case.seen.weight, case.x)
    torch.testing.assert_close(back.flatten(1), case.relevance.flatten(1) @ case.w)


@pytest.mark.parametrize("stabilizer", [0.01, 1e-9])
def test_epsilon(case: Case, stabilizer: float) -> None:
    def replica(x: Tensor, r: Tensor) -> Tensor:
        z = case.w @ x + case.b
        return x * (case.w.T @ (r / (z + stabilizer * sign(z))))

    case.check(rules.epsilon(case.seen, [case.x], case.relevance, stabilizer=stabilizer), replica)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(2, 1), (1.2, 0.2)])
def test_alpha_beta(plain: Case, alpha: float, beta: float, bias: bool) -> None:
    def replica(x: Tensor, r: Tensor) -> Tensor:
        above, below = (plain.w * x).clamp(min=0), (plain.w * x).clamp(max=0)
        z_above = above.sum(1) + bias * plain.b.clamp(min=0)
        z_below = below.sum(1) + bias * plain.b.clamp(max=0)
        # an output whose products have one sign only: that side takes all
        up = alpha + (z_below == 0).double() * (1 - alpha)
        down = beta + (z_above == 0).double() * (-1 - beta)
        return above.T @ (up * r / (z_above + 0.01)) - below.T @ (down * r / (z_below - 0.01))

    found = rules.alpha_beta(plain.seen, [plain.x], plain.relevance, alpha=alpha, beta=beta, stabilizer=0.01, bias=bias)
    plain.check(found, replica)


@pytest.mark.parametrize("bias", [False, True])
def test_z_plus(plain: Case, bias: bool) -> None:
    def replica(x: Tensor, r: Tensor) -> Tensor:
        above, below = (plain.w * x).clamp(min=0), (plain.w * x).clamp(max=0)
        z_above = above.sum(1) + bias * plain.b.clamp(min=0)
        # a negative output into which nothing positive went
        lone = (z_above == 0) & (plain.w @ x + plain.b < 0)
        return above.T @ (r / (z_above + 0.01)) + below.T @ (lone * r / (below.sum(1) - 0.01))

    plain.check(rules.z_plus(plain.seen, [plain.x], plain.relevance, stabilizer=0.01, bias=bias), replica)


def test_z_plus_behind_a_relu(plain: Case) -> None:
    """Outputs that a ReLU cut off have no relevance; with that known the rule needs no second look."""
    relevance = plain.relevance * (plain.z > 0)

    def replica(x: Tensor, r: Tensor) -> Tensor:
        above = (plain.w * x).clamp(min=0)
        return above.T @ (r / (above.sum(1) + 0.01))

    found = rules.z_plus(plain.seen._replace(rectified=True), [plain.x], relevance, stabilizer=0.01)
    plain.check(found, replica, relevance)


def test_gamma(plain: Case) -> None:
    def replica(x: Tensor, r: Tensor) -> Tensor:
        c = torch.cat([plain.w * x, plain.b[:, None]], 1)
        z = c.sum(1, keepdim=True)
        c = c + 0.25 * torch.where(z >= 0, c.clamp(min=0), c.clamp(max=0))
        z = c.sum(1, keepdim=True)
        return (c / (z + TINY * sign(z))).T[:-1] @ r

    plain.check(rules.gamma(plain.seen, [plain.x], plain.relevance, gamma=0.25, stabilizer=TINY), replica)


def test_gamma_is_the_papers_on_positive_outputs() -> None:
    case = Case("linear without bias", True)
    relevance = case.relevance * (case.z > 0)

    def replica(x: Tensor, r: Tensor) -> Tensor:
        w = case.w + 0.25 * case.w.clamp(min=0)
        return x * (w.T @ (r / (w @ x + TINY)))

    found = rules.gamma(case.seen, [case.x], relevance, gamma=0.25, stabilizer=TINY)
    case.check(found, replica, relevance)


def test_z_box(plain: Case) -> None:
    low, high = plain.x.amin(0, keepdim=True) - 0.1, plain.x.amax(0, keepdim=True) + 0.2
    seen = plain.seen._replace(bounds=(low, high))

    def replica(x: Tensor, r: Tensor) -> Tensor:
        w, plus, minus = plain.w, plain.w.clamp(min=0), plain.w.clamp(max=0)
        c = w * x - plus * low.flatten() - minus * high.flatten()
        return (c / (c.sum(1, keepdim=True) + TINY)).T @ r

    plain.check(rules.z_box(seen, [plain.x], plain.relevance, stabilizer=TINY), replica)


def test_w_square_and_flat(plain: Case) -> None:
    def replica(c: Tensor, r: Tensor) -> Tensor:
        total = c.sum(1)
        return c.T @ (r / torch.where(total == 0, 1.0, total))

    plain.check(rules.w_square(plain.seen, [plain.x], plain.relevance), lambda x, r: replica(plain.w**2, r))
    plain.check(rules.flat(plain.seen, [plain.x], plain.relevance), lambda x, r: replica((plain.w != 0).double(), r))


def call(function: Callable[..., Tensor], **known: object) -> Call:
    return Call("call", None, None, function, **known)  # type: ignore[arg-type]


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": nn.AvgPool2d(2),
    "average with padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool2d((2, 3)),
    "mean": lambda x: x.mean((2, 3)),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("rule", ["by_sign", "proportional"])
def test_average_pooling(name: str, rule: str, nonnegative: bool) -> None:
    torch.manual_seed(3)
    pool = POOLS[name]
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    x = x.relu() if nonnegative else x
    r = torch.randn_like(pool(x))
    w = torch.autograd.functional.jacobian(pool, x).reshape(r.numel(), x.numel())
    c = w * x.flatten()
    if rule == "by_sign":
        c = torch.where(c.sum(1, keepdim=True) >= 0, c.clamp(min=0), c.clamp(max=0))
        found = rules.by_sign(call(pool, nonnegative=(nonnegative,)), [x], r)
    else:
        found = rules.proportional(call(pool), [x], r, stabilizer=TINY)
    total = c.sum(1, keepdim=True)
    wanted = (c / torch.where(total == 0, 1.0, total)).T @ r.flatten()
    torch.testing.assert_close(found[0], wanted.view_as(x), rtol=1e-6, atol=1e-10)  # type: ignore[arg-type]


def test_maximum_goes_to_the_winner() -> None:
    x = torch.tensor([[[[1.0, 5.0, 2.0, 2.0], [0.0, 3.0, 2.0, 1.0]]]])
    found = rules.winner(call(nn.MaxPool2d(2)), [x], torch.tensor([[[[7.0, -4.0]]]]))
    wanted = [[[[0.0, 7.0, -4.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]
    assert torch.as_tensor(found[0]).tolist() == wanted


def added(a: Tensor, b: Tensor, rule: Callable[..., rules.Shares], r: Tensor, **known: object) -> list[float]:
    graph = torch.fx.Graph()
    node = graph.call_function(torch.add, (graph.placeholder("a"), graph.placeholder("b")))
    layer = Call("add", node, None, torch.add, **known)  # type: ignore[arg-type]
    return [float(part) for part in rule(layer, [a, b], r)]  # type: ignore[arg-type]


def test_residual_add_by_hand() -> None:
    """3 + 1: three to one. 3 - 1: all to the positive part. 1 - 3: all to the negative. Nothing: nothing."""
    one = partial(torch.tensor, dtype=torch.float64)
    for a, b, r, wanted in [(3, 1, 8, [6, 2]), (3, -1, 8, [8, 0]), (1, -3, 8, [0, 8]), (-1, -3, 8, [2, 6])]:
        inputs = one([float(a)]), one([float(b)])
        got = added(*inputs, rules.joined_by_sign, one([float(r)]), nonnegative=(a >= 0, b >= 0))
        assert got == pytest.approx(wanted)
        if a + b > 0:
            got = added(*inputs, rules.joined_by_sign, one([float(r)]), nonnegative=(a >= 0, b >= 0), rectified=True)
            assert got == pytest.approx(wanted)
    assert added(one([0.0]), one([0.0]), rules.joined_by_sign, one([0.0]), nonnegative=(True, True)) == [0, 0]
    wanted = [12, -4]
    assert added(one([3.0]), one([-1.0]), partial(rules.proportional, stabilizer=TINY), one([8.0])) == pytest.approx(
        wanted
    )
