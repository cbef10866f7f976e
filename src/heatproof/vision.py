"""The one door to torchvision: the package imports it from here.

A torchvision wheel that was built for CUDA stops at import beside a CPU-only torch, because its compiled operators
cannot be loaded and ``torchvision::nms`` does not exist. heatproof needs none of these operators, so where (and only
where) that import fails, their schemas are defined and it is made again. ``import heatproof`` sees to it for whoever
imports torchvision afterwards, timm and torchmetrics too, and imports neither torch nor torchvision for that.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torchvision
    import torchvision.transforms.functional

__all__ = ["torchvision"]

_schemas: list[Any] = []
"""Kept alive with this module."""


class _Finder:
    """Finds torchvision as Python does, and lets it load without its compiled operators."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "torchvision" else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                try:
                    load(module)
                except RuntimeError as error:
                    if "torchvision::" not in str(error):
                        raise
                    _define_operators()
                    load(module)

            spec.loader.exec_module = exec_module
        return spec


def _define_operators() -> None:
    import torch

    # the schemas of torchvision's own C++ registration
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)


def __getattr__(name: str) -> Any:
    if name == "torchvision":
        return importlib.import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.meta_path.insert(0, _Finder)
