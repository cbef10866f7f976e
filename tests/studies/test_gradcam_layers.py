"""The sentence on CAM says how far Grad-CAM is from it, or why there is none."""

import re

import torch
from tests.training.nets import convolutions, patches
from torch import nn

from heatproof.models.classifier import Classifier
from heatproof.studies.gradcam_layers import cam_sentence


def test_cam_is_grad_cam_where_it_applies_and_is_told_where_not() -> None:
    images = patches(1)[0]
    told = cam_sentence(convolutions(), images, [1])
    assert not re.search("does not apply", told)
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    deep = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head), input_size=16, name="deep").eval()
    assert cam_sentence(deep, images, [1]).startswith("deep: CAM does not apply (")
