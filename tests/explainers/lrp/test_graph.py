"""The logits among what a network returns, and the graph's logits held against them."""

import math

import pytest
import torch
from torch import nn

from heatproof.errors import ModelError
from heatproof.explainers.lrp.graph import compare, output_of


def test_logits_are_found_under_their_key_or_not_at_all() -> None:
    logits = torch.rand(1, 3)
    assert output_of({"features": logits * 2, "mine": logits}, "mine") is logits
    assert output_of((logits * 2, logits), 1) is logits
    for returned, key in (({"features": logits}, "mine"), ((logits,), 1), (None, "mine")):
        assert output_of(returned, key) is None


def test_logits_that_differ_are_refused_and_those_that_are_no_numbers_not_compared() -> None:
    network, pixels = nn.Sequential(nn.Flatten()), torch.rand(1, 1, 2, 2)
    compare(network, pixels, pixels.flatten(1))
    with pytest.raises(ModelError, match="whose logits differ by 1 from those of the network itself"):
        compare(network, pixels, pixels.flatten(1) + 1)
    pixels[0, 0, 0, 0] = math.nan
    compare(network, pixels, torch.zeros(1, 4))
