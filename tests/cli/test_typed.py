"""The command that a page and an advice tell is the one that was typed, whatever it holds."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatproof.cli import command_line

SPECS = ["lrp(layer='default')", "d'!e", "c'$HOME", "f\\'g", "a`'b", "x\"y'z", "", "two words", "it's"]


@given(st.lists(st.text(alphabet="ab '\"$`\\!()=,\n")))
def test_it_is_read_again_as_it_was(words: list[str]) -> None:
    assert shlex.split(command_line(words)) == ["heatproof", *words]


@pytest.mark.parametrize("word", SPECS)
def test_a_shell_reads_it_as_it_was(word: str) -> None:
    line = command_line([word]).replace("heatproof", "printf %s", 1)
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == word
