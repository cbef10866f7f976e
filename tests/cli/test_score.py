"""``--score``: what is explained, by name."""

import pytest

import heatproof as hp
from heatproof.cli.options import scored
from heatproof.errors import SpecError
from heatproof.explainers.scores import Output


def test_a_score_is_given_to_explainers_that_name_none() -> None:
    given = [hp.GradCAM(), hp.GradCAM(score="contrast"), hp.CAM(), hp.RISE(masks=8)]
    assert scored(given, "log_odds") == [
        hp.GradCAM(score="log_odds"),
        hp.GradCAM(score="contrast"),
        hp.CAM(),
        hp.RISE(masks=8, score="log_odds"),
    ]
    assert scored(given, None) == given
    assert scored([hp.GradCAM()], "output(index=2)") == [hp.GradCAM(score=Output(2))]


@pytest.mark.parametrize(("text", "told"), [("log_ods", "did you mean log_odds"), ("outpt(1)", "did you mean output")])
def test_a_score_that_is_not_there_is_named(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        scored([hp.GradCAM()], text)
