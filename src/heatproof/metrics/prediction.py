"""What became of the predictions: right or wrong, and the same as another model's or not; one value per image."""

from jaxtyping import Bool
from torch import Tensor

from heatproof.errors import InputError
from heatproof.types import Labels, Logits


def top_k_correct(logits: Logits, labels: Labels, k: int = 1) -> Bool[Tensor, "batch"]:
    """Whether the label is among the ``k`` highest logits; with fewer classes than ``k`` all count.

    **Range** its mean is the top-k accuracy, in [0, 1].

    Raises:
        InputError: labels outside the classes, or k below 1.

    >>> import torch
    >>> logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    >>> top_k_correct(logits, torch.tensor([1, 0])), top_k_correct(logits, torch.tensor([1, 0]), k=2)
    (tensor([False, False]), tensor([ True, False]))
    """
    if k < 1:
        raise InputError(f"top-k accuracy needs k of at least 1, got {k}")
    if len(labels) and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise InputError(
            f"labels must lie in 0..{logits.shape[1] - 1}, got {int(labels.min())}..{int(labels.max())}; "
            "leave out images whose class is not known"
        )
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1)


def agreement(a: Logits, b: Logits) -> Bool[Tensor, "batch"]:
    """Whether two models predict the same class.

    **Range** its mean is in [0, 1].

    Raises:
        InputError: logits of different shapes.

    >>> import torch
    >>> agreement(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 9.0]]))
    tensor([True])
    """
    if a.shape != b.shape:
        raise InputError(
            f"two models are compared on the same images and classes, got {list(a.shape)} and {list(b.shape)}"
        )
    return a.argmax(1) == b.argmax(1)
