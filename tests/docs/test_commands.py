"""Every fenced command of the README and the documentation is run, or is marked with why it is not.

A comment above a fence is its mark: ``weights`` (real networks or photos, run where ``../shared`` is), ``hours`` (a
published study, which ``tests/studies`` runs from end to end in small), ``cluster`` (several machines), ``by hand`` (it
changes the machine) or ``exits N``. All others run here, in a folder with photos and networks of the names that the
pages use; networks that would be fetched have small stand-ins.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.command_line import heatproof

from docs_world import make_world

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = ("weights", "hours", "cluster", "by hand", "exits 3")
# by the tutorials' own test, with their Python
WITH_PYTHON = ("docs/tutorials/audit.md",)
STAND_INS = {
    "resnet50": "mine.py:build",
    "resnet18": "mine.py:build",
    "vgg16": "mine.py:other",
    "MODEL": "demo",
    "CLEAN": "demo",
    "DATA": "demo",
}
# the last of an option given twice counts
SMALLER = {
    "explain": "--limit 2 --top 1",
    "shift": "--limit 6 --batch-size 2",
    "fool": "--limit 8 --steps 2 --batch-size 4",
    "compare": "--limit 4",
    "audit": "--limit 10 --budget 37",
    "evaluate": "--limit 2",
    "repair": "--limit 8",
    "defend": "--limit 8 --steps 1",
    "app": "--limit 2 --port 0",
}
FEW = ("audit", "defend", "repair")
"""Of the photos of this folder these may say that they are too few."""
CODE = re.compile(r'"([^"\s]+\.py:\w+)"')
FOOLED = ["fool", "photos/", "--model", "mine.py:build", "--penalty", "location()", "--out", "runs/fooled"]
OF_RUNS = ("explain", "shift", "fool", "compare", "audit", "evaluate", "repair", "defend")


class Fence(NamedTuple):
    page: str
    mark: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        joined = self.text.replace("\\\n", " ")
        # within a word a # is none of the shell's
        lines = [re.sub(r"(^|\s)#\s.*", "", line) for line in joined.splitlines()]
        return [words for line in lines if (words := shlex.split(line))]


def fences() -> Iterator[Fence]:
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            if found["kind"] in ("sh", "bash", "shell", "console"):
                yield Fence(page.relative_to(ROOT).as_posix(), found["mark"] or "", found["text"])


ALL = list(fences())
RUN = sorted({fence.page for fence in ALL if not fence.mark and fence.page not in WITH_PYTHON})


@pytest.fixture(autouse=True)
def _no_page_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live page is opened and ended at once, instead of by an interrupt."""
    monkeypatch.setattr("heatproof.live.server.Server.serve_forever", lambda server: None)


def smaller(words: list[str]) -> list[str]:
    """The command on few photos, with the code given for run folders of a stand-in: a published network needs none."""
    records = [record for word in words[1:] if (record := Path(word, "run.json")).is_file()]
    coded = [code[1] for record in records if (code := CODE.search(record.read_text("utf-8")))]
    given = ["--architecture", coded[0]] if coded and words[0] in OF_RUNS else []
    given += ["--trust-code"] if coded and words[0] == "merge" else []
    return [*words, *SMALLER.get(words[0], "").split(), *given]


def test_a_fence_is_run_or_says_why_not() -> None:
    assert len(ALL) > 25
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for fence in ALL:
        assert not fence.mark or fence.mark in MARKS, fence
        for program, *words in fence.commands:
            if program == "make":
                assert words[0] in targets, fence
            elif fence.mark in ("", "exits 3"):
                assert program == "heatproof", fence
    # what is only marked is little
    assert sum(fence.mark == "by hand" for fence in ALL) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    refused: set[str] = set()
    for fence in ALL:
        if fence.page != page or fence.mark:
            continue
        for program, *words in fence.commands:
            # the README merges shards that the page on clusters makes, and its study has tests of its own
            if program == "heatproof" and (page, words[0]) not in (("README.md", "merge"), ("README.md", "study")):
                if "runs/fooled" in words and words[0] != "fool" and not Path("runs/fooled").exists():
                    # a page before this one made it
                    assert heatproof(*smaller(FOOLED)) == 0
                words = [STAND_INS.get(word, word) for word in words]
                if refused.intersection(words):
                    continue
                status = heatproof(*smaller(words))
                assert status in ((0, 1, 2) if words[0] in FEW else (0,)), words
                # what makes no folder of so few photos leaves nothing to go on from
                if status and "--out" in words:
                    refused.add(words[words.index("--out") + 1])


REAL = {
    "resnet50": "WEIGHTS/zoo.py:squeezenet1_1",
    "vgg16": "WEIGHTS/zoo.py:mobilenet_v2",
    "photos/": "DATA/imagenette2-160/val",
    "dog.jpg": "DATA/photos/both.png",
    "layer3": "features.9",
    "layer4": "features.12",
}


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("page", ["README.md", "docs/reproduction/chakraborty2022.md"])
def test_with_real_networks_and_photos(
    page: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [fence for fence in ALL if fence.page == page and fence.mark == ("" if page == "README.md" else "weights")]
    assert chosen
    for fence in chosen:
        for program, *words in fence.commands:
            # the study of the README takes the packaged network, and its demo is tested elsewhere
            if program == "heatproof" and words[0] not in ("study", "demo", "merge"):
                real = [REAL.get(word, word).replace("WEIGHTS", str(shared / "weights")) for word in words]
                real = [word.replace("DATA", str(shared / "data")) for word in real]
                real = [word.replace("../shared", str(shared)) for word in real]
                assert heatproof(*smaller(real)) in ((0, 1, 2) if words[0] in FEW else (0,)), real
