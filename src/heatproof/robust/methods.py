"""What is paid for in a training that makes heatmaps hold still, and what is altered in the network for good."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from heatproof.attacks.gradient import PGD
from heatproof.errors import InputError
from heatproof.models.altered import Alteration, finest_layer
from heatproof.models.classifier import Classifier
from heatproof.robust.terms import Curved, Decayed, Informative, Misaligned, Thin
from heatproof.training.adversarial import AttackTraining, KeptUnderAttack
from heatproof.training.settings import FineTune
from heatproof.training.terms import Term, function_term
from heatproof.types import Attack, settings


@runtime_checkable
class Method(Protocol):
    """A way to train.

    Attributes:
        labelled: the label of every image is asked for, whatever holds the function.
        curved: the network must bend: of ReLUs alone there is nothing to lower.
    """

    @property
    def labelled(self) -> bool: ...
    @property
    def curved(self) -> bool: ...
    def alteration(self, model: Classifier) -> Alteration:
        """What becomes of the network beside its weights."""
        ...

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        """The loss; what explains comes first, so that the logits cost no further pass."""
        ...


@settings
class Hessian:
    """The Hessian of the explained logit is kept small: ``weight`` * |H|^2, by one random direction a step.

    How far a gradient map moves along dx is H dx to the first order. A network of ReLUs has no Hessian, so softplus
    takes the place of ReLU, while it is trained and ever after.

    **Source** Dombrowski et al. 2022 [paper].

    Args:
        weight: of the squared Frobenius norm, with gradients by pixels in [0, 1]. By normalised inputs the source takes
            1e-4, which is about 2e-7 for CIFAR-10's standard deviations; a network that was trained without must begin
            with less [ours].
        beta: of the softplus; ``None``: the network bends without (SiLU, GELU).
        share: of a batch's photos that the term is taken of, in (0, 1]: the mean is the same, a step costs less [ours].

    Raises:
        InputError: a number makes no sense; (when used) a network of ReLUs and no beta.
    """

    weight: float = 1e-8
    beta: float | None = 10.0
    share: float = 0.25
    labelled = False
    curved = True

    def __post_init__(self) -> None:
        _check_weights(weight=self.weight)
        if not 0 < self.share <= 1:
            raise InputError(f"share must lie in (0, 1], of a batch's photos, got {self.share:g}")
        Alteration(self.beta)

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration(self.beta)

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [Curved(self.weight, recipe.seed, self.share), kept(recipe)]


@settings
class Alignment:
    """Local gradient alignment: the gradient near each photo is held along, and as long as, the gradient at it.

    ``l2`` * |g - g'|^2 + ``cosine`` * (1 - cos(g, g')) / 2, g' the gradient where uniform noise of +-``epsilon`` was
    added.

    **Source** Joo et al. 2023 [code]; the group of Heo et al.

    Args:
        l2: weight of the squared distance. By normalised inputs the paper takes 0.01 on CIFAR-10, which is 4e-4 with
            gradients by pixels in [0, 1], [ours].
        cosine: weight of the angle.
        epsilon: of the noise, in pixel units of [0, 1].
        beta: of softplus in the place of ReLU, while it is trained and ever after; ``None``: ReLU stays.

    Raises:
        InputError: a number makes no sense.
    """

    l2: float = 4e-4
    cosine: float = 0.1
    epsilon: float = 4 / 255
    beta: float | None = None
    labelled = False
    curved = False

    def __post_init__(self) -> None:
        _check_weights(l2=self.l2, cosine=self.cosine)
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon must lie in (0, 1], in pixel units of [0, 1], got {self.epsilon:g}")
        Alteration(self.beta)

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration(self.beta)

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [Misaligned(self.l2, self.cosine, self.epsilon, recipe.seed), kept(recipe)]


@settings
class Thickness:
    """R2ET: the cells of the map above rank k are held apart from those below it.

    ``weight`` * sum over pairs around rank k of the lower cell minus the higher one, cells over their mean; with
    ``hessian``, as the paper's R2ET has it, + ``hessian`` * |H|^2 (without: the paper's R2ET minus H).

    **Source** Chen et al. 2024 [code].

    Args:
        weight: of the gap, which is a sum over pairs of relative cells.
        k: share of the cells that count as the highest.
        pairs: at most so many; ``None``: as many as lie above rank k.
        hessian: weight of the squared Frobenius norm of the Hessian; needs a network that bends.
        beta: of softplus in the place of ReLU, while it is trained and ever after; ``None``: ReLU stays.

    Raises:
        InputError: a number makes no sense; (when used) a weight of the Hessian, a network of ReLUs and no beta.
    """

    weight: float = 1e-2
    k: float = 0.1
    pairs: int | None = None
    hessian: float = 0.0
    beta: float | None = None
    labelled = False

    def __post_init__(self) -> None:
        _check_weights(weight=self.weight)
        if not 0 < self.k < 1:
            raise InputError(f"k is a share of the cells, between 0 and 1, got {self.k}")
        if self.pairs is not None and self.pairs < 1:
            raise InputError(f"at least one pair of cells is held apart, got {self.pairs}")
        if not self.hessian >= 0:
            raise InputError(f"the weight of the Hessian must not be negative, got {self.hessian}")
        Alteration(self.beta)

    @property
    def curved(self) -> bool:
        return self.hessian > 0

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration(self.beta)

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        bent = [Curved(self.hessian, recipe.seed)] if self.hessian else []
        return [*bent, Thin(self.weight, self.k, self.pairs), kept(recipe)]


@settings
class SSR:
    """Smooth surface regularisation: (1 - alpha) * loss + alpha * ``scale`` * lambda_max of the loss's curvature.

    lambda_max(L^T W^T W L), W = dlogits/dx, L L^T = diag(p) - p p^T: the largest eigenvalue that the cross-entropy's
    Hessian has where the network is piecewise linear, so ReLU may stay.

    **Source** Wang et al. 2020 [code], alpha = 0.3 too.

    Args:
        alpha: share of the curvature in the loss.
        scale: of the eigenvalue, with gradients by pixels in [0, 1], [ours]; the code has one as well, 1e6 for
            gradients of means.
        classes: at most so many of the most probable classes count.

    Raises:
        InputError: a number makes no sense.
    """

    alpha: float = 0.3
    scale: float = 1e-3
    classes: int = 10
    labelled = False
    curved = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is a share of the loss, between 0 and 1, got {self.alpha}")
        _check_weights(scale=self.scale)
        if self.classes < 2:
            raise InputError(f"a curvature is one between classes, at least 2, got {self.classes}")

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration()

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [Informative(self.alpha * self.scale, self.classes), kept(recipe, 1 - self.alpha)]


@settings
class Adversarial:
    """Adversarial training: the cross-entropy of attacked photos; on request a layer's maps are blurred for good.

    **Source** Madry et al. 2018, equation 2.1; the blur of feature maps Bhusal et al. 2026, of which the abstract alone
    was read: which layer is ours.

    Args:
        attack: climbs the cross-entropy of the labels.
        blur: standard deviation of a Gaussian in cells of the layer's map; 0: none.
        layer: whose maps are blurred; ``None``: the last one whose maps are as large as those of the first.

    Raises:
        InputError: something that is no attack, or a blur that makes no sense; (when used) a photo without a label.
    """

    attack: Attack = PGD(epsilon=2 / 255, steps=3, keep="last")
    blur: float = 0.0
    layer: str | None = None
    labelled = True
    curved = False

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"attack is an attack, such as pgd(epsilon=4/255), without quotes, got {self.attack!r}")
        if self.layer is not None and not self.blur:
            raise InputError(f"layer={self.layer!r} is blurred by blur=1, and no blur was asked for")
        # which layer is known only where there is a network
        Alteration(blur=self.blur, layer=(self.layer or "the finest") if self.blur else None)

    def alteration(self, model: Classifier) -> Alteration:
        if not self.blur:
            return Alteration()
        return Alteration(blur=self.blur, layer=self.layer or finest_layer(model))

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [KeptUnderAttack(AttackTraining(self.attack))]


@settings
class WeightDecay:
    """Small weights: ``decay`` / 2 * the sum of their squares, which bounds the Hessian of a network of softplus.

    **Source** Dombrowski et al. 2022 [paper].

    Args:
        decay: of every weight of more than one dimension.
        beta: of softplus in the place of ReLU, while it is trained and ever after; ``None``: ReLU stays.

    Raises:
        InputError: a number makes no sense.
    """

    decay: float = 5e-3
    beta: float | None = None
    labelled = False
    curved = False

    def __post_init__(self) -> None:
        _check_weights(decay=self.decay)
        Alteration(self.beta)

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration(self.beta)

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [kept(recipe), Decayed(self.decay)]


@settings
class Softplus:
    """Softplus in the place of ReLU, while the network is trained and ever after; nothing else is paid for.

    softplus_beta(x) = log(1 + exp(beta x)) / beta; the smaller beta, the gentler bend the gradients, and the farther is
    the function from the one that the weights had learned.

    **Source** Dombrowski et al. 2019, section 4; trained with it, Dombrowski et al. 2022 [paper].

    Args:
        beta: in 1 / activation.

    Raises:
        InputError: a beta that is not positive; (when used) a network without ReLU.
    """

    beta: float = 5.0
    labelled = False
    curved = False

    def __post_init__(self) -> None:
        Alteration(self.beta)

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration(self.beta)

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [kept(recipe)]


@settings
class Plain:
    """The control: a training of the same length that pays for nothing but the function.

    **Source** [ours].
    """

    labelled = False
    curved = False

    def alteration(self, model: Classifier) -> Alteration:
        return Alteration()

    def terms(self, recipe: FineTune) -> Sequence[Term]:
        return [kept(recipe)]


def kept(recipe: FineTune, weight: float = 1.0) -> Term:
    """The term that holds the function, as ``recipe.keep`` says."""
    return function_term(recipe, weight)


def _check_weights(**weights: float) -> None:
    """Stop weights that are not positive: a method that pays for nothing is ``plain()``."""
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise InputError(f"{name} must be positive, got {weight}; a training that pays for nothing is plain()")
