"""Does a GPU give the processor's values, the same ones twice, and how fast? One JSON file and one Markdown table.

    python scripts/gpu_check.py --out gpu-check              # at most 8 minutes on a CUDA device, no network
    python scripts/gpu_check.py --device cpu --quick         # the same path on the processor, in a minute

Nothing is downloaded: the demo network and its scenes come with the package, other networks have random weights.

- values: every explainer, composite of LRP, attack and penalty in fp32 with TF32 off, against the processor's, and
  whether equal calls give equal bits;
- speed: Grad-CAM, LRP, PGD, a step of a fooling and the witness at batch 64 and 224 pixels on ResNet-50, as multiples
  of plain passes, with the peak of the device's memory, beside the peers that are installed;
- tests: those marked ``gpu``.
"""

import argparse
import gc
import json
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import heatproof as hp
from heatproof import catalog
from heatproof.attacks.objectives import misclassify
from heatproof.data.demo import photos
from heatproof.errors import HeatproofError
from heatproof.explainers.lrp.composites import COMPOSITES
from heatproof.explainers.lrp.propagation import LRP
from heatproof.manipulation.fine_tune import prepare
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.repairs.witness import ask_witness, questions
from heatproof.training.feeds import TensorFeed
from heatproof.types import Explainer
from heatproof.vision import torchvision

ROOT = Path(__file__).resolve().parents[1]
MOST = 1e-4
"""Largest difference from the processor's value that passes, as a share of the largest number of the map."""
STRAYS = 1 / 8
"""Share of the images that may differ by more: where a ReLU's input is zero but for rounding, so is its slope."""
MINUTES = 8.0
VOTES = ("certified_pixels", "sparsified")
"""Explainers that count votes: a vote that rounding turns is a step of the map, so the share of cells is compared."""
CHEAP: dict[str, dict[str, Any]] = {
    "smooth_grad": {"samples": 4},
    "integrated_gradients": {"steps": 4},
    "rise": {"masks": 32},
    "occlusion": {"patch": 16, "stride": 16},
    "scorecam": {"at_once": 16},
    "ablationcam": {"at_once": 16},
    "smoothed": {"n": 4, "explainer": hp.GradCAM()},
    "median_of_noisy": {"n": 8, "explainer": hp.GradCAM()},
    "sparsified": {"n": 24, "explainer": hp.SimpleGrad(), "keep": 0.5, "flat": 0.1, "confidence": 0.5},
    "certified_pixels": {"n": 16, "explainer": hp.SimpleGrad(), "tau": 0.5, "alpha": 0.5},
    "softplus": {"explainer": hp.GradCAM()},
    "contrast": {"explainer": hp.GradCAM()},
    "tangent": {"photos": "demo", "k": 4, "d": 2, "limit": 16},
}
"""Settings that make the explainers that repeat themselves short; the arithmetic is the same."""
ATTENTION = ("attention_rollout", "chefer")  # explainers of transformers
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 4},
    "patch": {"steps": 4},
    "nes": {"steps": 2, "draws": 2},
    "genetic": {"population": 4, "generations": 2},
    "corruption": {"severity": 2},
    "foreign": {"name": "torchattacks.FGSM"},
}
"""The same of attacks; the last two need packages of their own."""


@dataclass(frozen=True)
class Compared:
    """A box's values on the device against the processor's.

    Attributes:
        error: the largest difference as a share of the largest value, over all images but a share of :data:`STRAYS`.
        worst: the same over all images.
        twice: whether the device gave equal bits twice.
        passed: whether ``error`` is at most :data:`MOST`.
        left_out: why it was not compared.
    """

    kind: str
    name: str
    error: float | None = None
    worst: float | None = None
    twice: bool | None = None
    passed: bool | None = None
    left_out: str = ""


@dataclass(frozen=True)
class Timed:
    """How long a job takes, and how much of the device's memory.

    Attributes:
        seconds: the median; ``passes``: how many plain forward passes of the same batch take as long.
        mib: the peak of the device's memory; ``None`` on the processor.
        left_out: why it was not timed.
    """

    name: str
    seconds: float | None = None
    passes: float | None = None
    mib: float | None = None
    left_out: str = ""


@dataclass
class Report:
    """All that was found, as it is written."""

    device: str
    name: str
    versions: str
    quick: bool
    batch: int
    size: int
    compared: list[Compared] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    tests: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing that was compared differs, nothing differed when repeated, and no test failed."""
        return all(c.passed is not False and c.twice is not False for c in self.compared) and not self.tests.startswith(
            "failed"
        )


def scenes(count: int) -> tuple[Tensor, Tensor]:
    """The demo's images in [0, 1] and their classes."""
    found = photos(count=count)
    return torch.stack([pixels for _, pixels, _ in found]).float() / 255, torch.tensor([label for *_, label in found])


def of_error(ours: Tensor, theirs: Tensor, share: bool = False) -> tuple[float, float]:
    """``error`` and ``worst`` of values with one row per image; with ``share``, of how many cells differ at all."""
    one, two = ours.detach().double().cpu().flatten(1), theirs.detach().double().cpu().flatten(1)
    scale = two.abs().amax(1).clamp_min(1e-12)
    differences = (one - two).abs() / scale[:, None]
    rows = (differences > MOST).double().mean(1) * MOST / 0.01 if share else differences.amax(1)
    rows = rows.nan_to_num(nan=float("inf")).sort().values
    return float(rows[-1 - int(len(rows) * STRAYS)]), float(rows[-1])


def compared(kind: str, name: str, values: Callable[[str], Tensor], device: str, share: bool = False) -> Compared:
    """The values that a box gives on a device, called twice, against the processor's."""
    try:
        wanted, found, again = values("cpu"), values(device), values(device)
    except HeatproofError as error:
        return Compared(kind, name, left_out=first_line(error))
    except Exception as error:
        # what fails on the device alone is found here, and must not take the others with it
        return Compared(kind, name, passed=False, left_out=first_line(error))
    error, worst = of_error(found, wanted, share)
    return Compared(kind, name, error, worst, bool(torch.equal(found, again)), error <= MOST)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip() or 'it says no more'}".splitlines()[0][:200]


def maps_of(explainer: Explainer, model: Callable[[str], Classifier], images: Tensor) -> Callable[[str], Tensor]:
    return lambda device: explainer(model(device), images.to(device)).heatmaps


def compare_all(device: str, model: Callable[[str], Classifier], report: Report, late: Callable[[], bool]) -> None:
    """Every explainer, composite of LRP, attack and penalty."""
    images, labels = scenes(2 if report.quick else 8)
    jobs: list[partial[Compared]] = []
    for name in catalog.EXPLAINERS:
        explainer: Any = catalog.EXPLAINERS[name](**CHEAP.get(name, {}))
        values = maps_of(explainer, transformer_on if name in ATTENTION else model, images)
        jobs.append(partial(compared, "explainer", name, values, device, name in VOTES))
    lrp = {name: maps_of(LRP(composite=name), model, images) for name in COMPOSITES}
    lrp["attnlrp of a transformer"] = maps_of(LRP(composite="attnlrp"), transformer_on, images)
    attacks = {name: attacked(name, model, images, labels) for name in catalog.ATTACKS}
    jobs += [partial(compared, "lrp", name, values, device) for name, values in lrp.items()]
    jobs += [partial(compared, "attack", name, values, device) for name, values in attacks.items()]
    for name in catalog.PENALTIES:
        for what in ("value", "slope"):
            values = penalised(name, model, images, what)
            jobs.append(partial(compared, f"penalty's {what}", name, values, device))
    report.compared += [Compared(*job.args[:2], left_out="no time is left") if late() else job() for job in jobs]


def attacked(name: str, model: Callable[[str], Classifier], images: Tensor, labels: Tensor) -> Callable[[str], Tensor]:
    """What the attack reached: the objective of the attacked images, told by the processor in float64.

    The pixels themselves differ where the slope is zero but for rounding, and its sign is either.
    """

    def values(device: str) -> Tensor:
        attack: Any = catalog.ATTACKS[name](**ATTACKS.get(name, {}))
        on = model(device)
        found = attack(misclassify(on, labels.to(device)), images.to(device)).detach().cpu().double()
        judge = model("cpu").double()
        with torch.no_grad():
            reached = F.cross_entropy(judge(found), labels, reduction="none")
        judge.float()
        return reached[:, None]

    return values


def penalised(name: str, model: Callable[[str], Classifier], images: Tensor, what: str) -> Callable[[str], Tensor]:
    """The penalty of Grad-CAM's maps against those of the photos the other way round, or its slope in the weights."""

    def values(device: str) -> Tensor:
        network, pixels = model(device), images.to(device)
        penalty: Any = catalog.PENALTIES[name](*((0, 1) if name == "active_swap" else ()))
        reference = hp.GradCAM()(network, pixels.flip(-1)).heatmaps
        found = hp.GradCAM()(network, pixels, create_graph=True).heatmaps
        per_image = penalty(found, reference)
        if what == "value":
            return per_image[:, None]
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        slope = torch.autograd.grad(per_image.sum(), weights, materialize_grads=True)
        return torch.cat([part.flatten() for part in slope])[None]

    return values


@cache
def demo_on(device: str) -> Classifier:
    """The demo network on a device."""
    return hp.load("demo").to(device)


@cache
def transformer_on(device: str) -> Classifier:
    """A small transformer for photos, with random weights, on a device."""
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(64, 16, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128).eval()
    for weight in network.heads.parameters():
        torch.nn.init.normal_(weight)  # torchvision's begin with zeros
    return Classifier(network, (0.5,) * 3, (0.5,) * 3, input_size=64, name="transformer").to(device)


def resnet(device: str, quick: bool) -> Classifier:
    torch.manual_seed(0)
    kind = torchvision.models.resnet18 if quick else torchvision.models.resnet50
    network = kind(weights=None).eval()
    model = Classifier(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), default_layer="layer4", name="resnet")
    return model.to(device)


def speed_jobs(device: str, batch: int, size: int, quick: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """Plain passes first, then ours, then the peers'; each is made when its turn comes."""
    from benchmarks.explain import captum, pytorch_grad_cam
    from benchmarks.lrp import backward, forward, zennit

    model = resnet(device, quick)
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(batch, device=device) % 1000

    def training() -> object:
        return torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))

    pgd = hp.PGD(epsilon=8 / 255, steps=2 if quick else 10)
    yield "plain forward pass", partial(forward, model, images)
    yield "forward and backward to the pixels", partial(backward, model, images)
    yield "forward and backward to the weights", training
    yield "Grad-CAM", partial(hp.GradCAM(), model, images)
    yield "LRP, alpha1-beta0", partial(LRP(), model, images)
    yield "LRP, epsilon_plus", partial(LRP(composite="epsilon_plus"), model, images)
    yield f"PGD, {pgd.steps} steps", lambda: pgd(misclassify(model, labels), images)
    yield "step of a fooling, location, Grad-CAM", fooling_step(model, images, labels)
    feed = TensorFeed(images[: 1 if quick else 64].cpu(), labels[: 1 if quick else 64].cpu())
    witness = partial(ask_witness, model, feed, (7, 7), Hardware(device))
    yield f"witness, {questions()} questions a photo", witness
    yield "captum, LayerGradCam", partial(captum, model, images)
    yield "pytorch-grad-cam, GradCAM", partial(pytorch_grad_cam, model, images)
    yield "zennit, EpsilonPlus", partial(zennit, model, images, "epsilon_plus")


def fooling_step(model: Classifier, images: Tensor, labels: Tensor) -> Callable[[], object]:
    asked = hp.FineTune(steps=2, batch_size=len(images), lr=1e-6)
    images, labels, device = images.cpu(), labels.cpu(), images.device
    loop = prepare(model, hp.GradCAM(), hp.Location(), (images, labels), asked, held_out=(images[:1], labels[:1]))
    optimizer = loop.optimizer()
    fed = next(iter(loop.setup.feeds.train.stream(len(images), 1, seed=0))).to(device)
    return lambda: loop.step(optimizer, fed, None)


def time_all(device: str, report: Report, late: Callable[[], bool]) -> None:
    plain: float | None = None
    try:
        for name, job in speed_jobs(device, report.batch, report.size, report.quick):
            if late():
                raise HeatproofError(f"no time is left of the {MINUTES:g} minutes")
            found = timed(name, job, device, runs=1 if report.quick else 5)
            plain = plain or found.seconds
            passes = found.seconds / plain if found.seconds and plain else None
            report.timed.append(replace(found, passes=passes))
    # the next job could not even be set up, or there is no time for it
    except Exception as error:
        report.timed.append(Timed("the rest", left_out=first_line(error)))


def timed(name: str, job: Callable[[], object], device: str, runs: int) -> Timed:
    """The median of some runs after one that warms up."""
    cuda = device.startswith("cuda")
    wait = torch.cuda.synchronize if cuda else lambda: None

    def once() -> float:
        wait()
        start = time.perf_counter()
        job()
        wait()
        return time.perf_counter() - start

    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        first = once()
        # what takes long by itself is told by fewer runs
        seconds = statistics.median(once() for _ in range(runs if first < 5 else 1))
    # a peer that is not installed, too little memory, or what only this device says
    except Exception as error:
        return Timed(name, left_out=first_line(error))
    return Timed(name, seconds, mib=torch.cuda.max_memory_allocated() / 2**20 if cuda else None)


def run_tests(seconds: float) -> str:
    """What pytest says of the tests marked ``gpu``; begins with ``failed`` where not all of them passed."""
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"failed: not done after {seconds:.0f} s"
    lines = [line for line in done.stdout.splitlines() if re.search(r"passed|failed|error|skipped|deselected", line)]
    said = lines[-1].strip("= ") if lines else done.stderr[-200:]
    return said if done.returncode == 0 else f"failed with status {done.returncode}: {said}"


def markdown(report: Report) -> str:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [
        f"### {report.name}: {'the values of the processor' if report.passed else 'NOT the values of the processor'}",
        "",
        f"{report.versions}; fp32, TF32 off; tests marked gpu: {report.tests or 'not run'}; {report.seconds:.0f} s.",
        "",
        f"| batch {report.batch}, {report.size} pixels | seconds | plain forward passes | peak MiB |",
        "|---|---|---|---|",
        *(
            f"| {row.name} | {row.left_out or number(row.seconds, '.4f')} | {number(row.passes, '.2f')} | "
            f"{number(row.mib, '.0f')} |"
            for row in report.timed
        ),
        "",
        "| | largest difference | of all images | twice the same bits |",
        "|---|---|---|---|",
        *(
            f"| {row.kind} {row.name} | {row.left_out or number(row.error, '.1e')}"
            f"{' **fails**' if row.passed is False else ''} | {number(row.worst, '.1e')} | "
            f"{ {True: 'yes', False: '**no**', None: ''}[row.twice] } |"
            for row in report.compared
        ),
        "",
    ]
    return "\n".join(lines)


def check(device: str, quick: bool, tests: bool) -> Report:
    """All of it; what does not fit into :data:`MINUTES` is left out and named."""
    begin = time.perf_counter()
    cuda = device.startswith("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, heatproof {hp.__version__}"
    report = Report(device, name, versions, quick, *((2, 96) if quick else (64, 224)))

    def left(share: float = 1.0) -> float:
        return begin + 60 * MINUTES * share - time.perf_counter()

    compare_all(device, demo_on, report, lambda: left(0.4) < 0)
    time_all(device, report, lambda: left(0.7 if tests else 0.9) < 0)
    if tests:
        report.tests = run_tests(max(10.0, left(0.98)))
    report.seconds = time.perf_counter() - begin
    return report


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small networks and images, one run, no tests")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="NAME.json and NAME.md are written")
    asked = parser.parse_args(words)
    warnings.filterwarnings("ignore")
    sys.path.insert(0, str(ROOT))  # for the peers of benchmarks/
    try:
        Hardware(asked.device)
    except HeatproofError as error:
        sys.exit(f"gpu_check: {error} --quick, which compares the processor with itself")
    report = check(asked.device, asked.quick, tests=not asked.quick)
    text = markdown(report)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.with_suffix(".json").write_text(json.dumps({**asdict(report), "passed": report.passed}, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(text)
    print(text)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
