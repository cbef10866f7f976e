"""The one door to torchvision: import it from here, and before timm or zennit.

A torchvision wheel that was built for CUDA stops at import beside a CPU-only torch, because its compiled operators
cannot be loaded and ``torchvision::nms`` does not exist. heatproof needs none of these operators, so where (and only
where) that import fails, their schemas are defined here and the import succeeds.
"""

import importlib

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    # the schemas of torchvision's own C++ registration; kept alive with this module
    _schemas = torch.library.Library("torchvision", "FRAGMENT")
    _schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision = importlib.import_module("torchvision")

__all__ = ["torchvision"]
