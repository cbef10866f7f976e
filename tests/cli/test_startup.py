"""What answers at once: help, version, lists and wrong usage, without loading torch."""

import inspect
import os
import re
import resource
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import heatproof

import heatproof as package
from heatproof.cli import audit, compare, explain, fool, listing, shift
from heatproof.cli.verbs import app
from heatproof.vision import torchvision

HEAVY = ("torch", "torchvision", "timm", "numpy", "polars", "matplotlib", "accelerate")
# runs the command line, and says on the last line of standard error which of the heavy libraries it loaded
WATCHED = f"""
import sys
from heatproof import cli
try:
    cli.main()
finally:
    print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""
VERBS = [command.name for command in app.registered_commands]


def watched(*words: str) -> tuple[int, str, str, list[str], float]:
    """Exit status, output, remarks, heavy libraries loaded and seconds of processor time of ``heatproof WORDS``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *remarks, loaded = done.stderr.splitlines()
    took = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.returncode, done.stdout, "\n".join(remarks), loaded.split(), took


@pytest.mark.parametrize(
    ("words", "status", "wanted"),
    [
        (["--help"], 0, "Can this network's heatmaps be trusted?"),
        (["--version"], 0, f"heatproof {package.__version__}"),
        *(([verb, "--help"], 0, "or a model's layers" if verb == "list" else "--out") for verb in map(str, VERBS)),
        (["list"], 0, "  gradcam "),
        (["list", "studies"], 0, "Fooling rate against accuracy lost"),
        (["list", "models"], 0, "resnet50, "),
        (["list", "explainrs"], 2, "did you mean explainers"),
        (["expain"], 2, "No such command 'expain'"),
        (["shift", "demo", "--nonsense"], 2, "No such option: --nonsense"),
        (["shift", "demo", "--out", "x"], 2, "Missing option '--model'"),
        (["explain", "x", "--model", "demo", "--explainer", "gradcm", "--out", "x"], 2, "did you mean gradcam"),
        (["shift", "x", "--model", "demo", "--attack", "fgsn()", "--out", "x"], 2, "there is no attack 'fgsn'"),
        (["shift", "x", "--model", "demo", "--epsilon", "8/", "--out", "x"], 2, "'8/' cannot be read"),
        (["shift", "x", "--model", "demo", "--penalty", "locaton", "--out", "x"], 2, "did you mean location"),
        (["fool", "x", "--model", "demo", "--out", "x"], 2, "give one of --penalty"),
        (["fool", "x", "--model", "demo", "--penalty", "backdoor(trigger=triger())", "--out", "x"], 2, "trigger"),
        (["compare", "a", "b", "x", "--penalty", "topk", "--penalty", "top_q", "--out", "x"], 2, "did you mean top_k"),
        (["audit", "demo", "x", "--fail-on", "lies", "--out", "x"], 2, "doubtful or manipulated"),
        (["study", "heo2091", "--out", "x"], 2, "did you mean heo2019"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_torch_is_not_loaded(words: list[str], status: int, wanted: str) -> None:
    came, told, remarks, loaded, took = watched(*words)
    assert (came, loaded) == (status, [])
    assert wanted in " ".join((told + remarks).split()) or wanted in told
    # a loose guard: 0.1 to 0.25 s on a quiet machine, and torch alone takes more than a second
    assert took < 1


def test_torch_is_loaded_when_there_is_work() -> None:
    """The watch itself: it must see what is there to be seen."""
    came, _, _, loaded, _ = watched("list", "layers", "demo")
    assert came == 0
    assert {"torch", "torchvision", "numpy"} <= set(loaded)


def test_the_version_is_written_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", package.__version__)
    root = Path(__file__).parents[2]
    said = [p for p in (root / "src").rglob("*.py") if f'"{package.__version__}"' in p.read_text("utf-8")]
    assert [path.relative_to(root).as_posix() for path in said] == ["src/heatproof/__init__.py"]
    assert 'dynamic = ["version"]' in (root / "pyproject.toml").read_text("utf-8")


def test_the_defaults_in_the_help_are_those_of_the_settings() -> None:
    """They are written out in the signatures, since the settings load torch."""
    from heatproof.commands.audit.measure import OVERHEAD, Audit
    from heatproof.commands.audit.verdict import DOUBTFUL, MANIPULATED
    from heatproof.commands.compare.run import Compare
    from heatproof.commands.explain import Explain
    from heatproof.commands.fool.recipe import NAMES
    from heatproof.commands.shift.run import Shift
    from heatproof.training.settings import FineTune

    def default(verb: object, name: str) -> object:
        return inspect.signature(verb).parameters[name].default  # type: ignore[arg-type]

    def option(verb: object, name: str) -> Any:
        return inspect.signature(verb).parameters[name].annotation.__metadata__[0]  # type: ignore[arg-type]

    assert {name: default(fool.fool, name) for name in ("precision", "seed")} == {"precision": "fp32", "seed": 0}
    # the others are the recipe's to choose
    tuned = ("lr", "weight", "steps", "keep", "trainable", "max_accuracy_drop", "batch_size")
    assert [default(fool.fool, name) for name in tuned] == [None] * len(tuned)
    assert set(tuned) <= {field.name for field in fields(FineTune)}
    assert fool.RECIPES == NAMES
    assert default(audit.audit, "budget") == Audit.budget
    assert default(audit.audit, "batch_size") == Audit.part
    assert default(explain.explain, "top") == Explain.top
    assert default(shift.shift, "batch_size") == Shift.part
    assert default(shift.shift, "explain") == Shift.explain
    assert default(compare.compare, "batch_size") == Compare.part
    assert f"photo, {OVERHEAD} of them" in str(option(audit.audit, "budget").help)
    assert audit.GATES == {DOUBTFUL: (DOUBTFUL, MANIPULATED), MANIPULATED: (MANIPULATED,)}
    told = ", ".join(map(str, Shift.epsilons))
    assert option(shift.shift, "epsilon").show_default == f"the attack's own, else {told}"
    assert option(shift.shift, "attack").show_default == ", ".join(repr(attack).casefold() for attack in Shift.attacks)


def test_the_models_are_those_that_torchvision_lists() -> None:
    assert listing.torchvision_names() == torchvision.models.list_models(module=torchvision.models)


def test_own_explainers_are_named_like_the_others(capsys: pytest.CaptureFixture) -> None:
    from heatproof import catalog

    def mine() -> None:
        """Where I would look."""

    catalog.EXPLAINERS["mine"] = mine
    try:
        assert heatproof("list", "explainers") == 0
        assert "  mine                  Where I would look." in capsys.readouterr().out
    finally:
        del catalog.EXPLAINERS["mine"]


def test_the_installed_version_is_this_one_or_older() -> None:
    try:
        installed = version("heatproof")
    except PackageNotFoundError:
        pytest.skip("run from the sources")
    assert [int(part) for part in installed.split(".")] <= [int(part) for part in package.__version__.split(".")]


def test_the_program_starts_without_a_home(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-m", "heatproof", "--version"], capture_output=True, text=True, env=env)
    assert (told.returncode, told.stdout) == (0, f"heatproof {package.__version__}\n")
