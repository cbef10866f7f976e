"""Plain training: the steps by hand, and stopped at any step."""

import copy

import pytest
import torch
from torch import nn

from heatproof.errors import RunError
from heatproof.training.plain import train


class Memory:
    def __init__(self):
        self.state, self.saved = None, []

    def load(self):
        return copy.deepcopy(self.state)

    def save(self, state):
        self.state = copy.deepcopy(state)
        self.saved.append(state["step"])


def trained(steps: int, memory: Memory | None, stop_at: int = -1) -> tuple[nn.Module, list[float]]:
    network = nn.Linear(3, 2)
    nn.init.eye_(network.weight)
    nn.init.zeros_(network.bias)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(4)
    data = torch.arange(3.0 * steps).view(steps, 1, 3) / 10
    seen: list[float] = []

    def loss(batch: torch.Tensor, step: int) -> torch.Tensor:
        assert torch.equal(batch, data[step])
        return (network(batch) + torch.rand(1, generator=generator)).square().mean()

    def advance(done: int, value: float) -> None:
        seen.append(value)
        if done == stop_at:
            raise KeyboardInterrupt

    train(
        network,
        optimizer,
        schedule,
        lambda done: data[done:],
        loss,
        steps=steps,
        checkpoint=memory,
        every=4,
        generator=generator,
        advance=advance,
    )
    return network, seen


def test_the_steps_by_hand() -> None:
    network, seen = trained(6, None)
    twin = nn.Linear(3, 2)
    nn.init.eye_(twin.weight)
    nn.init.zeros_(twin.bias)
    optimizer, noise = torch.optim.Adam(twin.parameters(), lr=0.1), torch.Generator().manual_seed(4)
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2
        value = (twin(torch.arange(3.0 * step, 3.0 * step + 3)[None] / 10) + torch.rand(1, generator=noise)).square()
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
        assert seen[step] == pytest.approx(value.mean().item(), rel=1e-5)
    torch.testing.assert_close(network.weight, twin.weight)


def test_a_stopped_training_ends_with_the_same_weights() -> None:
    whole, memory = Memory(), Memory()
    straight, losses = trained(10, whole)
    assert whole.saved == [4, 8, 10]
    with pytest.raises(KeyboardInterrupt):
        trained(10, memory, stop_at=7)
    resumed, rest = trained(10, memory)
    assert memory.saved == [4, 8, 10]
    assert rest == losses[4:]
    assert torch.equal(straight.get_parameter("weight"), resumed.get_parameter("weight"))


def test_a_foreign_checkpoint_is_refused() -> None:
    memory = Memory()
    memory.state = {"epoch": 1, "network": {}, "optimizer": {}, "schedule": {}, "generator": None}
    with pytest.raises(RunError, match="holds no step; delete it to begin anew"):
        trained(2, memory)
