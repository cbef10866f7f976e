"""Which of a network's maps is the default, and the networks that have none."""

import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import LayerError
from heatproof.models.choice import WHOLE, Choice, check_read
from heatproof.models.layout import Layout


class Branches(nn.Module):
    """Two sequences of tokens, each made of the pixels alone, whose scores are added."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(3, 8, 4, 4)
        self.left, self.right, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(self.one(x).flatten(2).transpose(1, 2)).relu()
        right = self.right(self.two(x).flatten(2).transpose(1, 2)).relu()
        return self.head(left.mean(1) + right.mean(1))


def test_parallel_sequences_of_tokens_have_no_default_layer() -> None:
    model = hp.Classifier(Branches(), input_size=16, name="branches").eval()
    with pytest.raises(LayerError, match=r"no single layer of branches carries all .* for example right: `heatproof"):
        hp.default_layer(model)


class Pair(nn.Module):
    """A block of a residual stream that puts out a pair, and so no map; what lies in it is one branch."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x + self.mix(x).relu(), None


class Closed(nn.Module):
    """Tokens through a first stage and two blocks, closed by a normalisation where there is one; mean of tokens."""

    def __init__(self, closing: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.stage = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.blocks, self.closing = nn.ModuleList([Pair(), Pair()]), closing
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage(self.stem(x).flatten(2).transpose(1, 2))
        for block in self.blocks:
            x, _ = block(x)
        return self.head(self.closing(x).mean(1))


def test_a_closing_norm_stands_for_blocks_that_are_no_maps() -> None:
    """As HuggingFace writes Swin: what comes before the last blocks would be explained else."""
    assert hp.default_layer(hp.Classifier(Closed(nn.LayerNorm(8)).eval(), input_size=16)) == "closing"
    assert hp.default_layer(hp.Classifier(Closed(nn.Dropout()).eval(), input_size=16)) == "closing"


class Layouts(dict[str, Layout]):
    def get(self, name: str, output: Tensor) -> Layout | None:  # type: ignore[override]
        return super().get(name)


def test_a_layer_behind_which_most_could_not_be_read_is_none() -> None:
    layer, maps = nn.Conv2d(3, 4, 1), torch.zeros(1, 4, 5, 5)
    outputs: dict[str, tuple[nn.Module, Tensor]] = dict.fromkeys(("stem", "a", "b", "c"), (layer, maps))
    read = {name: Layout("NCHW", 5, 5) for name in outputs}
    check_read(Choice("stem", WHOLE), outputs, Layouts(read), "net")
    check_read(Choice("stem", WHOLE), outputs, Layouts(stem=read["stem"], c=read["c"]), "net")  # half is no most
    with pytest.raises(LayerError, match=r"behind stem, .* lies most of the network \(a, \.\.\.\), so it has no"):
        check_read(Choice("stem", WHOLE), outputs, Layouts(stem=read["stem"]), "net")
