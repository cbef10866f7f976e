"""Attackers who see scores and maps, and no gradient: they ask, and draw the next questions from the answers.

What is random is one picture for the whole batch, so that an image's adversarial does not depend on its neighbours.
"""

import torch
from torch import Tensor

from heatproof.attacks.balls import Norm, check_epsilon, project, random_start, steepest
from heatproof.attacks.gradient import Best
from heatproof.attacks.objectives import Goal, begin
from heatproof.errors import InputError
from heatproof.types import Images, Objective, PerImage, settings


@settings
class NES:
    """Natural evolution strategies: PGD along a gradient that is estimated from values alone.

    g = 1 / (2 n sigma) * sum_i d_i (L(x + sigma d_i) - L(x - sigma d_i)), d_i standard normal, fresh in every step;
    x <- project(x + step_size * steepest(g)). Of the images met between steps the best is kept. Questions are images:
    what lies outside [0, 1] is clipped.

    Raised with ``move_heatmap`` it attacks maps where scores and maps are handed out and nothing else, the setting of
    Tamam, Lapid and Sipper 2023 (AttaXAI).

    **Source** Ilyas et al. 2018, section 2.1, with antithetic draws as theirs. **Range** images in [0, 1] within the
    ball. **Cost** 2 * draws + 1 questions a step, and one more.

    Args:
        epsilon: the ball's radius in pixel units of [0, 1].
        steps: of the ascent.
        draws: pairs of questions in a step.
        sigma: how far apart the questions lie, in pixel units of [0, 1].
        norm: of the ball.
        step_size: ``None``: 2.5 * epsilon / steps.
        seed: of the draws.

    Raises:
        InputError: settings that make no sense.
    """

    epsilon: float = 8 / 255
    steps: int = 40
    draws: int = 25
    sigma: float = 0.01
    norm: Norm = "linf"
    step_size: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon, self.norm)
        if self.steps < 1 or self.draws < 1 or not self.sigma > 0:
            raise InputError(f"steps, draws and sigma must be positive, got {self!r}")

    def __call__(self, objective: Objective, images: Images) -> Images:
        clean = images.detach()
        if self.epsilon == 0:
            return clean.clone()
        goal, generator = begin(objective, clean), torch.Generator().manual_seed(self.seed)
        step_size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        point, best = clean, Best.none(clean)
        with torch.no_grad():
            for _ in range(self.steps):
                slope = torch.zeros_like(clean)
                for _ in range(self.draws):
                    draw = torch.randn(clean.shape[1:], generator=generator).to(clean)
                    asked = ((point + sign * self.sigma * draw).clamp(0, 1) for sign in (1, -1))
                    further, back = (_value(goal, question) for question in asked)
                    slope += (further - back).view(-1, 1, 1, 1) * draw
                point = project(point + step_size * steepest(slope, self.norm), clean, self.epsilon, self.norm)
                best = best.or_better(point, goal.look(point))
        return best.images


@settings
class Genetic:
    """Genetic search for the image of the ball at which an objective is highest.

    A population of images of the ball: the best half are parents; a child takes each pixel value from one of two
    parents, and a share of its values is drawn anew, uniformly within ``width`` * epsilon of where they were. Parents
    live on. Raised with ``move_heatmap`` it is SAFARI's worst case: the farthest map while the class stays.

    **Source** Huang et al. 2023 (SAFARI). **Differs** that the best half become parents, and the shares, are [ours].
    **Range** images in [0, 1] within the ``linf`` ball. **Cost** population * (1 + generations / 2) questions, and one.

    Args:
        epsilon: the ball's radius in pixel units of [0, 1].
        population: images that live at a time, of each image; even.
        generations: rounds of children.
        mutation: share of a child's pixel values that are drawn anew.
        width: how far, in epsilon.
        seed: of everything random.

    Raises:
        InputError: settings that make no sense.
    """

    epsilon: float = 8 / 255
    population: int = 20
    generations: int = 50
    mutation: float = 0.05
    width: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if self.population < 4 or self.population % 2 or self.generations < 1:
            raise InputError(f"a population is even and of at least 4, bred for at least 1 generation, got {self!r}")
        if not 0 <= self.mutation <= 1 or not self.width > 0:
            raise InputError(f"mutation is a share and width positive, got {self!r}")

    def __call__(self, objective: Objective, images: Images) -> Images:
        clean = images.detach()
        if self.epsilon == 0:
            return clean.clone()
        goal, generator = begin(objective, clean), torch.Generator().manual_seed(self.seed)
        seeds = torch.randint(2**31, (self.population,), generator=generator).tolist()
        with torch.no_grad():
            alive = torch.stack([random_start(clean, self.epsilon, "linf", seed) for seed in seeds])
            fitness = torch.stack([_fitness(goal, one) for one in alive])
            best = Best.none(clean)
            for _ in range(self.generations):
                order = fitness.argsort(0, descending=True)[: self.population // 2]
                parents, fitness = _of_each(alive, order), fitness.gather(0, order)
                children = torch.stack([self._child(parents, clean, generator) for _ in range(len(order))])
                alive = torch.cat([parents, children])
                fitness = torch.cat([fitness, torch.stack([_fitness(goal, child) for child in children])])
            winner = _of_each(alive, fitness.argmax(0, keepdim=True))[0]
            return best.or_better(winner, goal.look(winner)).images

    def _child(self, parents: Tensor, clean: Images, generator: torch.Generator) -> Images:
        shape = clean.shape[1:]
        one, other = torch.randint(len(parents), (2,), generator=generator).tolist()
        mother = torch.rand(shape, generator=generator).to(clean) < 0.5
        child = torch.where(mother, parents[one], parents[other])
        drawn = (2 * torch.rand(shape, generator=generator) - 1).to(clean) * self.width * self.epsilon
        anew = torch.rand(shape, generator=generator).to(clean) < self.mutation
        return project(torch.where(anew, child + drawn, child), clean, self.epsilon)


def _fitness(goal: Goal, images: Images) -> PerImage:
    """The value; images that may not be handed out come after all that may."""
    look = goal.look(images)
    return torch.where(look.allowed, look.value, look.value - 1e6)


def _value(goal: Goal, images: Images) -> PerImage:
    return goal.look(images).value


def _of_each(alive: Tensor, order: Tensor) -> Tensor:
    """Of each image the members of its own order, [members, batch, ...]."""
    return alive[order, torch.arange(alive.shape[1], device=alive.device)]
