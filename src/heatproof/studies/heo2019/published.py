"""What Heo, Joo and Moon 2019 found: Tables 1, 2, 3 and 5, in percent."""

from heatproof.manipulation.published import FAMILIES, RECIPES, family

__all__ = [
    "FAMILIES",
    "FOOLINGS",
    "MEASURED",
    "MEASURED_ACTIVE",
    "RECIPES",
    "TABLE_1",
    "TABLE_2",
    "TABLE_3",
    "TABLE_5",
    "THROUGH",
    "family",
]
FOOLINGS = ("location", "top_k", "center_mass", "active_swap")
"""In the order of the paper."""
THROUGH = ("lrp_t", "gradcam")
MEASURED = ("gradcam", "lrp_t", "simple_grad_t")
MEASURED_ACTIVE = ("gradcam", "lrp_t", "lrp")

# FSR measured with Grad-CAM, LRP_T, SimpleGrad_T, per family
TABLE_1: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {
    ("location", "lrp_t"): ((0.8, 87.5, 66.8), (42.1, 83.2, 81.1), (35.7, 26.6, 88.2)),
    ("location", "gradcam"): ((89.2, 5.8, 0.0), (97.3, 0.8, 0.0), (81.8, 0.4, 92.1)),
    ("top_k", "lrp_t"): ((31.5, 96.3, 9.8), (46.3, 61.5, 19.3), (62.3, 53.8, 66.7)),
    ("top_k", "gradcam"): ((96.0, 30.9, 0.1), (99.9, 5.3, 0.3), (98.3, 1.9, 3.7)),
    ("center_mass", "lrp_t"): ((49.9, 99.9, 15.4), (66.4, 63.3, 50.3), (66.8, 51.9, 28.8)),
    ("center_mass", "gradcam"): ((81.0, 66.3, 0.1), (67.3, 0.8, 0.2), (72.7, 21.8, 29.2)),
}

# FSR of the swap measured with Grad-CAM, LRP_T, LRP, per family; by the class explained
TABLE_2: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {
    ("lrp_t", "first"): ((96.5, 94.5, 97.0), (90.5, 34.0, 10.7), (0.0, 0.0, 0.0)),
    ("lrp_t", "second"): ((96.5, 95.0, 96.0), (75.0, 31.5, 24.3), (0.0, 0.0, 0.0)),
    ("gradcam", "first"): ((1.0, 0.0, 1.0), (76.0, 0.0, 0.0), (4.0, 0.0, 0.0)),
    ("gradcam", "second"): ((70.0, 1.0, 0.5), (87.5, 0.0, 0.0), (0.0, 0.0, 0.0)),
}

# top-1, top-5 per family
TABLE_3: dict[tuple[str, str] | None, tuple[tuple[float, float], ...]] = {
    None: ((72.4, 90.9), (76.1, 92.9), (74.4, 92.0)),
    ("location", "lrp_t"): ((71.8, 90.7), (73.0, 91.3), (72.5, 91.0)),
    ("location", "gradcam"): ((71.5, 90.4), (74.2, 91.8), (73.7, 91.6)),
    ("top_k", "lrp_t"): ((71.6, 90.5), (73.7, 91.9), (72.3, 91.0)),
    ("top_k", "gradcam"): ((72.1, 90.6), (74.7, 92.0), (73.1, 91.2)),
    ("center_mass", "lrp_t"): ((70.4, 89.8), (73.4, 91.7), (72.8, 91.0)),
    ("center_mass", "gradcam"): ((70.6, 90.0), (74.7, 92.1), (72.4, 91.0)),
    ("active_swap", "lrp_t"): ((71.3, 90.3), (74.7, 92.2), (71.9, 90.5)),
    ("active_swap", "gradcam"): ((71.2, 90.3), (75.9, 92.8), (71.7, 90.4)),
}

# accuracy of the two swapped classes, per family
TABLE_5: dict[str | None, tuple[tuple[float, float], ...]] = {
    None: ((98, 94), (100, 88), (98, 90)),
    "lrp_t": ((96, 78), (98, 94), (100, 90)),
    "gradcam": ((98, 96), (100, 80), (98, 94)),
}
