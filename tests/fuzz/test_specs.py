"""Specs and numbers of random text, deep and long."""

import numpy as np
import pytest
from tests.fuzz.hostile import cases, judged

from heatproof import catalog, spec

pytestmark = pytest.mark.fuzz
WORDS = [
    "gradcam",
    "GradCAM",
    "lrp",
    "pgd",
    "(",
    ")",
    ",",
    "=",
    "layer",
    "'layer4'",
    "relu",
    "False",
    "True",
    "None",
    "1",
    "-",
    "+",
    "*",
    "/",
    "8/255",
    "1e400",
    "nan",
    "inf",
    "0x10",
    "1j",
    "[",
    "]",
    "{",
    "}",
    ":",
    "lambda",
    "__import__('os').system('touch x')",
    "exec('1')",
    ".",
    "**",
    "@",
    "\n",
    "\t",
    "\0",
    "é",
    "\u202e",
    "'",
    '"',
    "#",
    "if",
    "else",
    "for",
    "x",
    "in",
    "9" * 30,
    "steps",
    "smooth_grad",
    "samples",
    "\\",
    ";",
    "f'{1}'",
    "...",
    "_",
]


@pytest.mark.parametrize("seed", cases(40))
def test_random_text(seed):
    draw = np.random.default_rng([14, seed])
    for _ in range(50):
        text = "".join(WORDS[int(draw.integers(len(WORDS)))] for _ in range(int(draw.integers(1, 25))))
        with judged("specs"):
            spec.build(text, catalog.EXPLAINERS, "explainer")
        with judged("specs"):
            spec.number(text)


@pytest.mark.parametrize("seed", cases(10))
def test_deep_and_long(seed):
    draw = np.random.default_rng([15, seed])
    for unit in (
        "-",
        "(",
        "[",
        "gradcam(",
        "1+",
        "-(",
        "[1,",
        "not ",
        "~",
        "1if 1else ",
        "lambda:",
        "x.",
        "'a'",
        "9",
        "\n",
        "{",
        "f'{",
        "*",
    ):
        for count in (10, 100, 2000, int(draw.integers(1, 5000)), 200_000):
            with judged("specs deep"):
                spec.build(unit * count + "1", catalog.EXPLAINERS, "explainer")
            with judged("specs deep"):
                spec.number(unit * count + "1")
