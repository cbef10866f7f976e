"""Composites: lists of (layer types, rule); the first entry whose types fit a layer gives its rule.

To add a rule, write a function ``(layer, inputs, relevance) -> relevance`` and an entry with the layer's type; a module
type that an entry names is one node of the graph, whatever its forward method does:

>>> def mine(stabilizer):
...     return (((MyAttention,), my_rule), *paper(stabilizer))
>>> COMPOSITES["mine"] = mine  # doctest: +SKIP
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from heatproof.explainers.lrp import attention, rules
from heatproof.explainers.lrp.kinds import (
    ACTIVATION,
    AVERAGE,
    CONVOLUTION,
    IDENTITY,
    LINEAR,
    MAXIMUM,
    MOVE,
    NORM,
    RESHAPE,
    STANDARDISED,
    WEIGHTED,
    Add,
    Attention,
    Beside,
    Concat,
    FirstLayer,
    Gate,
    Kind,
    LinearMap,
    Mixed,
    Offset,
    Piece,
    Product,
    Scale,
    Split,
)
from heatproof.explainers.lrp.openings import OPENED

Rule = Callable[..., rules.Shares]
Composite = tuple[tuple[tuple[Kind, ...], Rule], ...]

STRUCTURE: Composite = (
    (ACTIVATION + IDENTITY + (Scale,), rules.pass_on),
    (MAXIMUM, rules.winner),
    (RESHAPE, rules.reshape),
    (MOVE, rules.move),
    ((Split,), rules.move),
    ((Piece,), rules.piece),
    ((Concat,), rules.concat),
    ((Gate,), rules.gate),
)
"""What every composite ends with: the parts of a network that only pass, move or choose."""


def paper(stabilizer: float) -> Composite:
    """LRP-composite: epsilon on linear layers, alpha1-beta0 on convolutions.

    **Source** Lapuschkin et al. 2017; Heo et al. 2019, section 2.
    """
    alpha_beta = partial(rules.alpha_beta, alpha=1.0, beta=0.0, stabilizer=stabilizer)
    return (
        (LINEAR, partial(rules.epsilon, stabilizer=stabilizer)),
        (CONVOLUTION + NORM, alpha_beta),
        ((Add,), rules.joined_by_sign),
        (AVERAGE, rules.by_sign),
        (STANDARDISED, partial(rules.standardised, stabilizer=stabilizer)),
        ((LinearMap,), partial(rules.proportional, stabilizer=stabilizer)),
        *STRUCTURE,
    )


def z_plus(stabilizer: float) -> Composite:
    """Alpha1-beta0 on linear layers too: only what speaks for a unit hands its relevance on.

    **Source** Montavon et al. 2017; Lee et al. 2021, code.
    """
    return ((LINEAR, partial(rules.z_plus, stabilizer=stabilizer)), *paper(stabilizer))


def alpha2beta1(stabilizer: float) -> Composite:
    """Epsilon on linear layers, alpha2-beta1 on convolutions, with the bias in z+ and z-.

    **Source** Bach et al. 2015; zennit's ``EpsilonAlpha2Beta1``.
    """
    return (
        (CONVOLUTION + NORM, partial(rules.alpha_beta, alpha=2.0, beta=1.0, stabilizer=stabilizer, bias=True)),
        *epsilon(stabilizer),
    )


def epsilon_plus(stabilizer: float) -> Composite:
    """Epsilon on linear layers, z-plus on convolutions, with the bias in z+.

    **Source** zennit's ``EpsilonPlus``.
    """
    return (
        (CONVOLUTION + NORM, partial(rules.alpha_beta, alpha=1.0, beta=0.0, stabilizer=stabilizer, bias=True)),
        *epsilon(stabilizer),
    )


def epsilon_gamma_box(stabilizer: float) -> Composite:
    """Z-box on the first layer, gamma = 0.25 on convolutions, epsilon on linear layers.

    **Source** Montavon et al. 2019, section 10.3; zennit's ``EpsilonGammaBox``.
    """
    return (
        ((FirstLayer,), partial(rules.z_box, stabilizer=stabilizer)),
        (CONVOLUTION + NORM, partial(rules.gamma, gamma=0.25, stabilizer=stabilizer)),
        *epsilon(stabilizer),
    )


def epsilon(stabilizer: float) -> Composite:
    """Epsilon everywhere: with a small stabilizer and only ReLUs, gradient times input.

    **Source** Bach et al. 2015, eq. 58; the identity Ancona et al. 2018.
    """
    return (
        (WEIGHTED, partial(rules.epsilon, stabilizer=stabilizer)),
        ((Add, *AVERAGE, LinearMap), partial(rules.proportional, stabilizer=stabilizer)),
        (STANDARDISED, partial(rules.standardised, stabilizer=stabilizer)),
        *STRUCTURE,
    )


def paper_flat(stabilizer: float) -> Composite:
    """The paper's, with the flat rule on the first layer: less speckle, the colour of the pixels does not count.

    **Source** Lapuschkin et al. 2019.
    """
    return (((FirstLayer,), rules.flat), *paper(stabilizer))


def paper_w_square(stabilizer: float) -> Composite:
    """The paper's, with the w-square rule on the first layer.

    **Source** Montavon et al. 2017.
    """
    return (((FirstLayer,), rules.w_square), *paper(stabilizer))


def attnlrp(stabilizer: float) -> Composite:
    """AttnLRP: epsilon throughout, and rules for attention's products and softmax; for transformers.

    **Source** Achtibat et al. 2024. A class token beside the patches, positions and relative biases take their share
    as a bias does.
    """
    return (
        ((Offset,), partial(rules.proportional, stabilizer=stabilizer)),
        ((nn.Softmax,), attention.softmax),
        ((Product,), partial(attention.product, stabilizer=stabilizer)),
        ((Attention,), partial(attention.attention, stabilizer=stabilizer)),
        ((Gate,), attention.halves),
        ((Beside,), rules.move),
        *epsilon(stabilizer),
    )


def cp_lrp(stabilizer: float) -> Composite:
    """CP-LRP: attention's weights are held constant, relevance goes through the values alone; the rest as AttnLRP.

    **Source** Ali et al. 2022; for vision transformers Achtibat et al. 2024, appendix A.2.3. **Differs** products of
    two signals other than attention's weights and values (gates, linear attention) are shared as AttnLRP does.
    """
    return (
        ((Mixed,), partial(attention.mixed, stabilizer=stabilizer)),
        ((Attention,), partial(attention.held, stabilizer=stabilizer)),
        *attnlrp(stabilizer),
    )


def with_gamma(composite: Composite, conv: float | None, linear: float | None, stabilizer: float) -> Composite:
    """The composite with the gamma rule on convolutions (and batch norm), on linear layers, or on both.

    **Source** Montavon et al. 2019; for transformers Achtibat et al. 2024, appendix A.2.3.
    """
    kinds = ((CONVOLUTION + NORM, conv), (LINEAR, linear))
    chosen = [(types, gamma) for types, gamma in kinds if gamma is not None]
    return (
        *((types, partial(rules.gamma, gamma=gamma, stabilizer=stabilizer)) for types, gamma in chosen),
        *composite,
    )


COMPOSITES: dict[str, Callable[[float], Composite]] = {
    "lrp": paper,
    "alpha1beta0": paper,
    "z_plus": z_plus,
    "alpha2beta1": alpha2beta1,
    "epsilon_plus": epsilon_plus,
    "epsilon_gamma_box": epsilon_gamma_box,
    "epsilon": epsilon,
    "attnlrp": attnlrp,
    "cp_lrp": cp_lrp,
    "lrp_flat": paper_flat,
    "lrp_w_square": paper_w_square,
}

SHAPES_ONLY: frozenset[Rule] = frozenset(
    {rules.pass_on, rules.reshape, rules.move, rules.concat, rules.gate, rules.piece}
)
"""Rules that look at the shapes of the inputs and not at their values, which then need not be kept."""


def rule_for(composite: Composite, kind: Kind, *, first: bool = False) -> Rule | None:
    """The rule of the first entry that fits, or ``None``."""
    for kinds, rule in composite:
        if issubclass(kind, kinds) or (first and FirstLayer in kinds):
            return rule
    return None


def own_types(composite: Composite) -> tuple[Kind, ...]:
    """Module types that a composite names and that would be walked through: each is one node of the graph."""
    kinds = {kind for types, _ in composite for kind in types}
    return tuple(kind for kind in kinds if kind in OPENED or not kind.__module__.startswith(("torch.nn", "heatproof")))
