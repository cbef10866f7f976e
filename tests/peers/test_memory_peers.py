"""The memory that occlusion takes beside captum's, each in a process of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is told by Linux"),
]

JOB = """
import sys
from pathlib import Path

import torch
from captum.attr import Occlusion
from torch import nn

import heatproof as hp

torch.set_num_threads(1)
torch.manual_seed(0)
body = nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()
network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)).eval()
images, targets = torch.rand(4, 3, 112, 112), torch.zeros(4, dtype=torch.long)

def ours():
    return hp.Occlusion(patch=14, stride=7, fill=0.0, at_once=64)(network, images, targets).heatmaps

def captums():
    # sixteen patches of four images: 64 in a pass
    with torch.no_grad():
        return Occlusion(network).attribute(
            images, (3, 14, 14), strides=(3, 7, 7), target=targets, perturbations_per_eval=16
        )[:, 0]

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024

with torch.no_grad():
    network(images)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
maps = {"ours": ours, "captum": captums}[sys.argv[1]]()
print(status("VmHWM") - before, float(maps.double().abs().sum()))
"""

# what glibc keeps of freed memory differs by tens of MiB from run to run: handed back at once, the peak is what is held
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def test_occlusion_takes_no_more_memory_than_captums_and_says_the_same() -> None:
    found = {}
    for whose in ("ours", "captum"):
        command = [sys.executable, "-c", JOB, whose]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | GIVEN_BACK)
        assert done.returncode == 0, done.stderr[-2000:]
        found[whose] = [float(number) for number in done.stdout.split()]
    assert found["ours"][0] < found["captum"][0] + 8, found
    assert found["ours"][1] == pytest.approx(found["captum"][1], rel=1e-3)
