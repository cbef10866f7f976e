"""Attention that can be differentiated twice: torch's fused kernels have a first derivative alone."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable(wanted: bool = True) -> Generator[None]:
    """Inside, scaled dot-product attention is made of products and a softmax, whose derivatives have derivatives.

    A map in a loss needs the slope of a slope. The numbers are those of the fused kernels, up to rounding.
    """
    with sdpa_kernel(SDPBackend.MATH) if wanted else nullcontext():
        yield
