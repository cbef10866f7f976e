"""Does the heatmap depend on the weights at all? They are drawn anew, block by block, and the map should follow."""

import copy
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn

from heatproof.errors import InputError
from heatproof.heatmaps import normalise, resize
from heatproof.metrics.confidence import chosen
from heatproof.metrics.evaluation import Better, Column, Explained, Finding, Question
from heatproof.metrics.removal import unordered
from heatproof.metrics.similarity import WINDOW, spearman, ssim
from heatproof.models.layers import find_layer, list_layers, network_of
from heatproof.types import Explainer, Heatmaps, Images, PerImage, Targets, settings


class Randomised(NamedTuple):
    """How alike the maps are before and after a block was drawn anew, one value per image each.

    Attributes:
        block: the module that was drawn last.
        spearman: rank correlation of the signed maps; NaN where one is constant.
        spearman_absolute: of the absolute values.
        ssim: of the absolute values, each map over its maximum, at the size of the images; NaN where the map before is
            constant.
    """

    block: str
    spearman: PerImage
    spearman_absolute: PerImage
    ssim: PerImage


@settings
class Randomisation:
    """The model parameter randomisation test: heatmaps of the model against those of a copy with random weights.

    ``cascading``: from the top, each block is drawn anew and stays so. ``independent``: each block alone, the others
    as they were. A map that hardly changes explains the image, not the model. The class explained is that of the
    untouched model throughout.

    **Source** Adebayo et al. 2018, section 3. **Differs** their SSIM window is 50 pixels wide and uniform, here it is
    the 11 x 11 Gaussian.
    **Range** rank correlations and SSIM in [-1, 1]; low after randomisation is what an honest explainer shows.

    Args:
        mode: ``cascading`` or ``independent``.
        blocks: names of modules, the first to be drawn first; empty: :func:`blocks_from_the_top`.
        at_most: stop after so many blocks, 0: all.
        seed: of the new weights; the global generator is left as it was.

    Raises:
        InputError: an unknown mode, or a model in which nothing can be drawn.
        LayerError: a block that does not exist.
    """

    mode: Literal["cascading", "independent"] = "cascading"
    blocks: tuple[str, ...] = ()
    at_most: int = 0
    seed: int = 0
    question: ClassVar[Question] = "randomisation"
    condition: ClassVar[str] = "randomised"

    def __post_init__(self) -> None:
        if self.mode not in ("cascading", "independent"):
            raise InputError(f"randomisation is cascading or independent, got {self.mode!r}")

    @property
    def columns(self) -> tuple[Column, ...]:
        return likeness("down", "before and after blocks are drawn anew")

    def check(self, model: nn.Module, size: tuple[int, int], boxes: bool) -> None:
        for block in self.blocks:
            find_layer(model, block)

    def measure(self, explained: Explained) -> list[Finding]:
        found = self(explained.model, explained.explainer, explained.images, explained.targets)
        return [Finding(tuple(values), condition=block) for block, *values in found]

    def __call__(
        self, model: nn.Module, explainer: Explainer, images: Images, targets: Targets | None = None
    ) -> list[Randomised]:
        targets = chosen(model, images, targets)
        blocks = self.blocks or tuple(blocks_from_the_top(model, images))
        blocks = blocks[: self.at_most] if self.at_most else blocks
        for block in blocks:
            find_layer(model, block)
        before = explainer(model, images, targets).heatmaps
        drawn = copy.deepcopy(model)
        found = []
        for place, block in enumerate(blocks):
            if self.mode == "independent":
                drawn.load_state_dict(model.state_dict())
            draw_anew(find_layer(drawn, block), self.seed + place)
            after = explainer(drawn, images, targets).heatmaps
            found.append(Randomised(block, *alike(before, after, (images.shape[2], images.shape[3]))))
        return found


def alike(before: Heatmaps, after: Heatmaps, size: tuple[int, int]) -> tuple[PerImage, PerImage, PerImage]:
    """Rank correlation signed and absolute, and SSIM of the absolute maps at ``size`` (at least 11 x 11).

    NaN where a map has no order of cells; for SSIM, which sees also that a map became blank, the map before.

    >>> maps = torch.eye(3)[None]
    >>> alike(maps, -2 * maps, (11, 11))
    (tensor([-1.]), tensor([1.]), tensor([1.]))
    """
    before, after = before.detach().float(), after.detach().float()
    shape = max(size[0], WINDOW), max(size[1], WINDOW)
    large = [resize(normalise(maps.abs(), "max"), shape) for maps in (before, after)]
    alike = ssim(*large).masked_fill(unordered(before.abs(), "most"), torch.nan)
    return spearman(before, after), spearman(before.abs(), after.abs()), alike


def likeness(better: Better, when: str) -> tuple[Column, ...]:
    """The columns of :func:`alike`."""
    return (
        Column("spearman", better, "[-1, 1]", f"rank correlation of the signed maps {when}"),
        Column("spearman_absolute", better, "[-1, 1]", f"rank correlation of the absolute maps {when}"),
        Column("ssim", better, "[-1, 1]", f"structural similarity of the absolute maps {when}"),
    )


def blocks_from_the_top(model: nn.Module, images: Images) -> list[str]:
    """The network's blocks, the one that runs last first: what its sequences are made of, or its own children.

    Lists and sequences are looked into, other modules (a residual block, a Fire module) are one block. A block that
    holds nothing but a normalisation belongs to what lies before it, and is not named.

    Raises:
        InputError: the network has no block with weights.
    """
    network = network_of(model)
    order = {layer.name: place for place, layer in enumerate(list_layers(model, images[:1]))}
    found: dict[str, int] = {}

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
                visit(child, f"{path}.")
            elif any(parameter.ndim > 1 for parameter in child.parameters()):
                # a block may hand on a tuple; then its inner layers say when it ran
                ran = [place for layer, place in order.items() if layer == path or layer.startswith(f"{path}.")]
                if ran:
                    found[path] = max(ran)

    visit(network, "")
    if not found:
        raise InputError(f"{type(network).__name__} has no block with weights of its own that could be drawn anew")
    return sorted(found, key=lambda path: -found[path])


def draw_anew(module: nn.Module, seed: int) -> None:
    """Draw the weights of a module as they were when it was made; torch's global generator is left as it was.

    Layers have their own initialisation (``reset_parameters``), which also resets a batch norm's statistics; a
    parameter that belongs to no such layer becomes Gaussian noise of its own deviation. Drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in module.modules():
            own = list(part.parameters(recurse=False))
            if not own:
                continue
            if hasattr(part, "reset_parameters"):
                fresh = copy.deepcopy(part).cpu()
                fresh.reset_parameters()  # type: ignore[operator]
                part.load_state_dict(fresh.state_dict())
                continue
            with torch.no_grad():
                for parameter in own:
                    spread = parameter.std(correction=0)
                    parameter.copy_(spread * torch.randn(parameter.shape).to(parameter))
