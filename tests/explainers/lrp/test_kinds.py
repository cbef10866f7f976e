"""What a node of a traced network is, and whether it writes over what it reads."""

import operator

import torch
from torch import Tensor, fx, nn

from heatproof.explainers.lrp.kinds import kind_of, writes_in_place


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.over, self.beside = nn.ReLU(inplace=True), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.over(self.beside(x))
        return torch.relu_(x) + nn.functional.relu(x, inplace=True)


def test_writing_is_told_by_module_name_operator_or_setting() -> None:
    network, graph = Writes(), fx.symbolic_trace(Writes()).graph
    with graph.inserting_before(next(node for node in graph.nodes if node.op == "output")):
        graph.call_function(operator.iadd, (next(iter(graph.nodes)), 1))
    told = {node.name: writes_in_place(node, network) for node in graph.nodes}
    assert [name for name, writes in told.items() if writes] == ["over", "relu_", "relu", "iadd"]
    pixels, beside, *_ = graph.nodes
    assert kind_of(pixels, network) is None  # no operator
    assert kind_of(beside, network) is nn.ReLU
