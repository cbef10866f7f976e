"""No relevance is dropped in silence: an operator without a rule is refused by its name, where relevance reaches it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heatproof.errors import ModelError
from heatproof.explainers.lrp.propagation import LRP
from networks import photos


class Branched(nn.Module):
    """A residual sum whose second branch is ``branch(self, x)``."""

    def __init__(self, branch: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.side = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.mix = nn.Parameter(torch.randn(4, 4))
        self.head = nn.Linear(4, 3)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head((x + self.branch(self, x)).mean((2, 3)))


def network(branch: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return Branched(branch).double().eval()


REFUSED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "einsum": lambda net, x: torch.einsum("bchw,bdhw->bchw", x, net.side(x)),
    "matmul": lambda net, x: torch.matmul(x, net.side(x)),
    "where": lambda net, x: torch.where(x > 0.1, x, net.side(x)),
    "topk": lambda net, x: x.topk(1, 1).values.expand_as(x),
    "max": lambda net, x: x.max(1, keepdim=True).values.expand_as(x),
    "max'": lambda net, x: torch.max(x, 1, keepdim=True)[0] + 0 * x,
    "cat": lambda net, x: torch.cat([x[:, :3], torch.ones(2, 1, 10, 10, dtype=x.dtype)], 1),
    "stack": lambda net, x: torch.stack([x, torch.ones(2, 4, 10, 10, dtype=torch.float64)]).sum(0),
    "conv2d": lambda net, x: F.conv2d(x, x.mean((0, 2, 3))[:, None, None, None] * net.side.weight),
    "maximum": lambda net, x: torch.maximum(x, net.side(x)),
    "masked_fill": lambda net, x: x.masked_fill(x > 0.5, 0.0),
    "detach": lambda net, x: net.side(x).detach(),
    "cumsum": lambda net, x: x.cumsum(1),
    "hstack": lambda net, x: torch.hstack(x.split(2, 1)),
    "addcmul": lambda net, x: torch.addcmul(x, x, net.side(x)),
    "floordiv": lambda net, x: x // 0.25,
    "unpool": lambda net, x: net.unpool(net.pool(x)[0], net.pool(x)[1]),
}


@pytest.mark.parametrize("operator", REFUSED)
@pytest.mark.parametrize("composite", ["lrp", "epsilon"])
def test_an_operator_without_a_rule_is_refused_by_name(operator: str, composite: str) -> None:
    with pytest.raises(ModelError, match=rf"no rule for (the function|layer) '{operator.rstrip(chr(39))}'"):
        LRP(composite=composite)(network(REFUSED[operator]), photos(2))


def whole(branch: Callable[[Any, Tensor], Tensor]) -> None:
    """What is let through shares out the score: epsilon to the pixels is gradient times input where all is linear."""
    model, images = network(branch), photos(2).requires_grad_()
    for bias in (model.stem.bias, model.side.bias, model.head.bias):  # type: ignore[union-attr]
        nn.init.zeros_(bias)  # type: ignore[arg-type]
    logits = model(images)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images)
    found = LRP(composite="epsilon", stabilizer=1e-14)(model, images.detach())
    torch.testing.assert_close(found.heatmaps, (gradient * images.detach()).sum(1), rtol=1e-7, atol=1e-10)


ALLOWED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mixed by a parameter": lambda net, x: torch.einsum("bchw,cd->bdhw", x, net.mix),
    "multiplied from the left": lambda net, x: torch.matmul(net.mix, x.flatten(2)).view_as(x),
    "a mask": lambda net, x: net.side(x) * (net.side(x) > 0),
    "places": lambda net, x: F.interpolate(net.pool(x)[0], scale_factor=2),
    "places not read": lambda net, x: net.pool(net.side(x))[0].repeat(1, 1, 2, 2),
    "zeros like": lambda net, x: net.side(x) * torch.ones_like(x),
    "a sum over a stack": lambda net, x: torch.stack([x, net.side(x)]).sum(0),
    "windows": lambda net, x: F.pad(net.side(x).unfold(3, 3, 1).sum(-1), (1, 1)),
    "a view by sizes": lambda net, x: x.view(x.size(0), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
}


@pytest.mark.parametrize("branch", ALLOWED)
def test_what_can_be_shared_out_is(branch: str) -> None:
    whole(ALLOWED[branch])


def test_a_length_is_held_constant() -> None:
    """A direction x / |x| hands its relevance to x whole, as a norm without a mean does."""
    model = nn.Sequential(nn.Flatten(), Direction(), nn.Linear(12, 3, bias=False)).double()
    images = torch.rand(2, 3, 2, 2, dtype=torch.float64)
    found = LRP(stabilizer=1e-15)(model, images)
    score = found.logits.gather(1, found.targets[:, None])[:, 0]
    torch.testing.assert_close(found.heatmaps.sum((1, 2)), score)


class Direction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def test_a_branch_that_only_a_gate_reads_needs_no_rule() -> None:
    """The norm of a smaller shape takes nothing, which shows when the shapes are known."""

    def branch(net: Any, x: Tensor) -> Tensor:
        size = x.norm(dim=(2, 3), keepdim=True)
        return x * (size / (size.mean(1, keepdim=True) + 1e-6))

    for composite in ("lrp", "attnlrp"):
        assert LRP(composite=composite)(network(branch), photos(2)).heatmaps.isfinite().all()

        def single(net: Any, x: Tensor) -> Tensor:
            # maps of one cell: the shapes tell nothing, that it is a length does
            return branch(net, x.mean((2, 3), keepdim=True)).expand_as(x)

        assert LRP(composite=composite)(network(single), photos(2)).heatmaps.isfinite().all()
    with pytest.raises(ModelError, match="no rule for the function 'norm'"):
        LRP()(network(lambda net, x: x.norm(dim=1, keepdim=True)), photos(2))


def test_a_factor_without_a_rule_that_takes_relevance_is_refused() -> None:
    """Of the shape of the other, neither is a gate: AttnLRP hands relevance to both."""
    with pytest.raises(ModelError, match="no rule for the function 'cumsum'"):
        LRP(composite="attnlrp")(network(lambda net, x: net.side(x) * x.cumsum(1)), photos(2))


def test_writing_into_a_slice_is_not_seen_and_is_refused() -> None:
    def branch(net: Any, x: Tensor) -> Tensor:
        y = net.side(x)
        y[:, :2].mul_(3.0)
        return y

    with pytest.raises(ModelError, match=r"logits differ by .* from those of the network itself"):
        LRP()(network(branch), photos(2))


def test_chance_is_refused() -> None:
    with pytest.raises(ModelError, match="drawing random numbers"):
        LRP()(network(lambda net, x: x * torch.rand(4, 1, 1, dtype=torch.float64)), photos(2))


class Spaced(nn.Module):
    """Space to depth before the first layer, with the number of images in its views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.head = nn.Conv2d(12, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous().view(n, c * 4, h // 2, w // 2)
        return self.head(F.relu(self.stem(x)).mean((2, 3)))


def test_views_by_the_number_of_images_before_the_first_layer() -> None:
    from heatproof.models.classifier import Classifier

    model = Classifier(Spaced().double().eval(), 0.5, 0.25, input_size=10).double()
    images = photos(3)
    together = LRP(composite="epsilon_gamma_box")(model, images)
    alone = torch.cat([LRP(composite="epsilon_gamma_box")(model, image[None]).heatmaps for image in images])
    torch.testing.assert_close(together.heatmaps, alone)


class Output(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.wrap = nn.Linear(300, 3).double(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.head(x.flatten(1)))


def test_logits_among_other_outputs() -> None:
    wanted = LRP()(Output(lambda x: x), photos(2)).heatmaps
    for wrap in (lambda x: (x,), lambda x: {"features": x * 2, "logits": x}, lambda x: {"out": x}):
        torch.testing.assert_close(LRP()(Output(wrap), photos(2)).heatmaps, wanted)
    with pytest.raises(ModelError, match=r"logits \[batch, classes\], here \[2, classes\]; Output returned tuple"):
        LRP()(Output(lambda x: x.split(1, 1)), photos(2))
    with pytest.raises(ModelError, match="returns a dictionary of features"):
        LRP()(Output(lambda x: {"features": x}), photos(2))
    with pytest.raises(ModelError, match=r"returns a tuple of 2: say which part they are, .*logits_key"):
        LRP()(Output(lambda x: (x * 2, x)), photos(2))
