"""``explain`` beside Grad-CAM alone, its figures, and the reading of photos: ``python -m benchmarks drawing``."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import heatproof as hp
from benchmarks.timing import interleaved, table
from heatproof.commands.explain import Explain, Figures, run_explain
from heatproof.data.batches import batches
from heatproof.report.drawing import DrawnBeside
from heatproof.report.figures import explanation_grid
from heatproof.results import Run
from heatproof.vision import torchvision

T = TypeVar("T")

BATCH, SIZE = 16, 224
PHOTOS = 320
CAMERA = (375, 500)
"""Rows and columns of a photo, as most of ImageNet's are."""
FACTORY = """from heatproof.vision import torchvision


def network():
    made = torchvision.models.{name}(weights=None).eval()
    made.mean, made.std, made.input_size = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), {size}
    return made
"""
NETWORKS = ("squeezenet1_1", "mobilenet_v2", "resnet50")


def write_photos(folder: Path, count: int) -> None:
    """JPEGs that compress as photos do: noise over smooth colours."""
    rng = np.random.default_rng(0)
    for number in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((CAMERA[1], CAMERA[0]))
        noisy = np.asarray(smooth) + rng.normal(0, 12, (*CAMERA, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)


def classifier(name: str) -> hp.Classifier:
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).eval()
    return hp.Classifier(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), input_size=SIZE, name=name)


def grid(path: Path, draw: Callable[..., T], seed: int = 0) -> T:
    """The usual figure: two classes, three maps, a photo of 224 pixels."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    maps = rng.normal(size=(2, 3, 7, 7))
    rows, columns = (
        [("tiger cat", 0.6), ("lynx", 0.3)],
        ["Grad-CAM", "Grad-CAM without ReLU", "Counterfactual Grad-CAM"],
    )
    more = {"title": "a photo", "predictions": rows}
    return draw(photo, rows, columns, maps, [False, True, False], path, **more)


def figures_a_second(runs: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        alone = interleaved({"one": partial(grid, path, explanation_grid)}, 10 * runs, clock=time.process_time)["one"]
        cores = len(os.sched_getaffinity(0))
        with DrawnBeside(few=0) as beside:
            for place in range(2 * cores):  # until all are up
                grid(path, beside.draw, place).result()
            begun = time.perf_counter()
            for drawn in [grid(Path(folder) / f"{n}.png", beside.draw, n) for n in range(20 * cores)]:
                drawn.result()
            together = 20 * cores / (time.perf_counter() - begun)
    rows = [
        ("figures a second of one core's own time", f"{1 / alone:.1f}"),
        (f"figures a second, {cores} processes on {cores} cores", f"{together:.1f}"),
    ]
    return table("Figures of two classes and three maps, 224 pixels", rows, ("", ""))


def _explain(model: hp.Classifier, folder: str, figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as out, Run.start(f"{out}/run", command="explain", settings={}) as run:
        asked = Explain(explainers=(hp.GradCAM(),), top=1, figures=figures)
        run_explain(asked, model, hp.open_data(folder, labels=False), run, batch_size=BATCH)


def _maps(model: hp.Classifier, ready: Sequence[Tensor]) -> None:
    for images in ready:
        hp.GradCAM()(model, images)


def _read(model: hp.Classifier, folder: str) -> None:
    for _ in batches(hp.open_data(folder, labels=False), model.preprocessing, BATCH):
        pass


def explain_beside_gradcam(runs: int) -> str:
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), PHOTOS)
        for name in NETWORKS:
            model = classifier(name)
            ready = [b.images for b in batches(hp.open_data(folder, labels=False), model.preprocessing, BATCH)]
            seconds = interleaved(
                {
                    "maps": partial(_maps, model, ready),
                    "read": partial(_read, model, folder),
                    "explain": partial(_explain, model, folder, 20),
                },
                runs,
            )
            megapixels = PHOTOS * CAMERA[0] * CAMERA[1] / 1e6
            rows.append(
                (
                    name,
                    f"{seconds['maps'] / seconds['explain']:.2f}",
                    f"{seconds['maps'] / seconds['read']:.1f}",
                    f"{megapixels / seconds['read']:.0f}",
                    f"{megapixels / seconds['maps']:.0f}",
                )
            )
    heads = ("", "explain", "reading alone", "read, megapixels a second", "explained, megapixels a second")
    title = f"{PHOTOS} photos of {CAMERA[1]} x {CAMERA[0]} pixels: throughput, of Grad-CAM alone on photos in memory"
    return table(title, rows, heads)


def _commanded(folder: str, network: str, processes: int) -> None:
    """The command as it is typed, by so many processes that share the photos."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with tempfile.TemporaryDirectory() as out:
        asked = ["-m", "heatproof", "explain", folder, "--model", network, "--explainer", "gradcam()", "--top", "1"]
        more = ["--figures", "20", "--batch-size", str(BATCH), "--out", f"{out}/run", "-q"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}
        subprocess.run([*launcher, *asked, *more], check=True, env=environment, capture_output=True)


def explain_by_processes(runs: int) -> str:
    """What further photos take, so that neither loading nor the figures count: of four times as many photos."""
    rows: list[tuple[str, ...]] = []
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as beside:
        few, many = (f"{beside}/{name}" for name in ("few", "many"))
        for folder in (few, many):
            Path(folder).mkdir()
        write_photos(Path(few), PHOTOS)
        write_photos(Path(many), 4 * PHOTOS)
        for name in NETWORKS[:2]:
            code = Path(beside, f"{name}.py")
            code.write_text(FACTORY.format(name=name, size=SIZE))
            model, network = classifier(name), f"{code}:network"
            ready = [b.images for b in batches(hp.open_data(few, labels=False), model.preprocessing, BATCH)]
            seconds = interleaved(
                {
                    "maps": partial(_maps, model, ready),
                    **{
                        f"{count} {part}": partial(_commanded, folder, network, count)
                        for count in (1, cores)
                        for part, folder in (("few", few), ("many", many))
                    },
                },
                runs,
            )
            further = {count: (seconds[f"{count} many"] - seconds[f"{count} few"]) / 3 for count in (1, cores)}
            rows.append((name, *(f"{seconds['maps'] / further[count]:.2f}" for count in (1, cores))))
    heads = ("", "one process", f"{cores} processes on {cores} cores")
    return table(f"heatproof explain, {3 * PHOTOS} further photos: throughput, of Grad-CAM alone", rows, heads)


def main(runs: int = 3) -> None:
    for part in (figures_a_second, explain_beside_gradcam, explain_by_processes):
        print(part(runs), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
