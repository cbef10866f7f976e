"""The hyper-parameters of Heo, Joo and Moon 2019."""

FAMILIES = ("VGG19", "ResNet50", "DenseNet121")
RECIPES: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("location", "lrp_t"): ((1e-6, 1), (1e-6, 4), (2e-6, 2)),
    ("location", "gradcam"): ((1e-6, 1), (2e-6, 2), (2e-6, 2)),
    ("top_k", "lrp_t"): ((5e-7, 1), (4e-7, 1.5), (1e-6, 1)),
    ("top_k", "gradcam"): ((3e-7, 0.4), (3e-7, 4), (3e-6, 6)),
    ("center_mass", "lrp_t"): ((2e-6, 0.25), (6e-7, 0.5), (5e-7, 0.25)),
    ("center_mass", "gradcam"): ((1e-6, 0.25), (1e-7, 1), (2e-6, 0.25)),
    ("active_swap", "lrp_t"): ((2e-6, 2), (3e-6, 2), (4e-6, 15)),
    ("active_swap", "gradcam"): ((2e-6, 2), (1e-6, 2), (6e-6, 15)),
}
"""Learning rate and weight of each fooling through each interpreter, per family [paper]."""
STEPS = {"passive": 300_000, "active": 4_000}
"""At most, of 8 images [code]."""
DEMO = (1e-5, 10.0, 3_000)
"""Learning rate, weight and steps of the authors' demonstration [code], for what is not in their table."""


def family(model: str) -> int:
    """The place of a model's family in the tables: VGG and what else has no shortcuts, ResNet, DenseNet.

    >>> family("resnet56"), family("densenet"), family("vgg")
    (1, 2, 0)
    """
    return 1 if "res" in model.lower() else 2 if "dense" in model.lower() else 0
