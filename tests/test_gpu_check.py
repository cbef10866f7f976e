"""The script for a GPU, held on the processor: it finds a device that differs, and tells all that it left out."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_refuses_in_a_sentence(script: ModuleType) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit) as stop:
        script.main([])
    assert str(stop.value).startswith("gpu_check: device 'cuda' cannot be used: ")
    assert "--device cpu --quick" in str(stop.value)


class TestCompared:
    def values(self, off: float, images: int, cells: int = 10_000) -> torch.Tensor:
        found = torch.rand(8, cells, generator=torch.Generator().manual_seed(0))
        found[:images, :3] += off
        return found

    @pytest.mark.parametrize(
        ("off", "images", "passed"), [(0, 8, True), (1e-6, 8, True), (1e-3, 1, True), (1e-3, 2, False)]
    )
    def test_a_difference_on_more_than_one_image_of_eight_fails(self, script, off, images, passed) -> None:
        found = script.compared("explainer", "x", lambda d: self.values(off if d == "gpu" else 0, images), "gpu")
        assert (found.passed, found.twice) == (passed, True)
        assert found.worst >= found.error

    def test_of_votes_the_share_of_cells_counts(self, script: ModuleType) -> None:
        def moved(cells: int):
            return lambda device: self.values(0.1 if device == "gpu" else 0, 8, cells)

        assert script.compared("explainer", "x", moved(10_000), "gpu", share=True).passed
        assert not script.compared("explainer", "x", moved(100), "gpu", share=True).passed

    def test_numbers_that_are_none_fail(self, script: ModuleType) -> None:
        found = script.compared("x", "x", lambda d: torch.full((8, 4), float("nan") if d == "gpu" else 1.0), "gpu")
        assert found.passed is False

    def test_other_bits_the_second_time_are_told(self, script: ModuleType) -> None:
        calls = iter(range(9))
        found = script.compared("x", "x", lambda d: torch.ones(8, 4) + 1e-6 * next(calls), "gpu")
        assert (found.passed, found.twice) == (True, False)
        report = script.Report("gpu", "GPU", "", True, 2, 96, compared=[found])
        assert not report.passed
        assert "**no**" in script.markdown(report)


@pytest.mark.slow
def test_the_whole_path_on_the_processor(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--out", str(tmp_path / "found")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    from heatproof import catalog

    told = {(row["kind"], row["name"]): row for row in found["compared"]}
    for kind, names in (("explainer", catalog.EXPLAINERS), ("attack", catalog.ATTACKS)):
        assert {name for own, name in told if own == kind} == set(names)
    assert {name for own, name in told if own == "penalty's slope"} == set(catalog.PENALTIES)
    # the processor against itself
    assert all(row["error"] == 0 for row in told.values() if not row["left_out"])
    # these two need packages of their own
    left_out = {row["name"]: row["left_out"] for row in told.values() if row["left_out"]}
    assert left_out.keys() <= {"foreign", "corruption"}, left_out
    timed = {row["name"]: row for row in found["timed"]}
    assert timed["plain forward pass"]["passes"] == 1
    assert len(timed) == 12
    assert "| Grad-CAM |" in (tmp_path / "found.md").read_text()
