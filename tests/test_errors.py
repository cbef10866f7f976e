"""Messages stay readable, whatever a user gave."""

import pickle

import pytest

from heatproof.errors import InputError, SpecError, shortened


@pytest.mark.parametrize("text", ["x" * 1_000_000, "two words " * 10_000, "\\" * 5000, "'" * 3000])
def test_what_is_quoted_is_cut(text):
    message = str(SpecError(f"there is no explainer {text!r}; did you mean lrp?"))
    assert len(message) < 300
    assert message.startswith("there is no explainer ")
    assert message.endswith("; did you mean lrp?")


def test_prose_is_not_cut():
    told = f"the model's classes are {'as many as there are ' * 20}and the network's layers are others"
    assert shortened(told) == told
    assert shortened(f"cannot read '{'a' * 198}'") == f"cannot read '{'a' * 198}'"


def test_errors_come_through_processes():
    error = InputError("images must lie in [0, 1]")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_of_two_quotes_only_the_long_one_is_cut():
    told = str(SpecError(f"'short' is not {'x' * 5000!r}"))
    assert told.startswith("'short' is not 'xxx")
    assert "(5,002 letters)" in told
