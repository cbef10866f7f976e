"""Formulas are typeset from a list of texts: each stands in a source, and each can be drawn."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from formulas import TYPESET, marked, mathml, typeset  # noqa: E402 from the folder of the documentation


def test_every_formula_stands_in_a_page_or_a_docstring() -> None:
    sources = [*(ROOT / "docs").glob("*/*.md"), *(ROOT / "src").rglob("*.py")]
    everything = " ".join(" ".join(path.read_text("utf-8").split()) for path in sources)
    assert [text for text in TYPESET if text not in everything] == []


def test_every_formula_is_drawn() -> None:
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed: pip install heatproof[docs]")
    for text, latex in TYPESET.items():
        drawn = mathml(latex)
        root = ElementTree.fromstring(drawn)
        assert root.tag.endswith("math"), text
        # no command that was not understood is left
        assert "\\" not in "".join(root.itertext()), text
        assert typeset(marked(text)) == drawn


def test_code_and_parts_of_other_formulas_stay() -> None:
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed: pip install heatproof[docs]")
    page = "see `h = ReLU(M)`, x^h = ReLU(M)\n```python\nh = ReLU(M)\n```\n"
    assert marked(page) == page
    found = typeset(marked("so alpha_k = (1/Z)\n    sum_ij dy_c/dA^k_ij; h = ReLU(M)."))
    assert found.count("<math") == 2
    assert found.startswith("so <math")
    assert found.endswith("</math>.")
