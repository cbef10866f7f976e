"""Everything once, offline: explain the packaged network, attack its pixels, fool its weights, audit and repair it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from heatproof.attacks.gradient import FGSM
from heatproof.attacks.objectives import misclassify
from heatproof.commands.audit.measure import Audit, measure
from heatproof.commands.audit.numbers import checks_of, with_joint_columns
from heatproof.commands.audit.plan import plan
from heatproof.commands.audit.questions import QUESTIONS
from heatproof.commands.audit.run import with_mosaics
from heatproof.commands.audit.verdict import HONEST, WORDS, Thresholds, conclude
from heatproof.commands.explain import STANDARD, add_grid_view, draw_grid
from heatproof.commands.record import model_record
from heatproof.data.batches import Batch
from heatproof.data.scenes import Scenes, scenes
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import Grid, explain_together
from heatproof.heatmaps import is_empty, resize
from heatproof.manipulation.fine_tune import fine_tune
from heatproof.manipulation.penalties import Location
from heatproof.metrics.fooling import is_fooled
from heatproof.metrics.shift import mod
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.repairs.remedies import Truth
from heatproof.repairs.repair import EVALUATIONS, Means, repair
from heatproof.report.figures import Panel, amplify, gallery
from heatproof.report.plots import Curve, curves
from heatproof.results.run import Run
from heatproof.results.table import interval, wilson
from heatproof.results.viewer import View, add_view
from heatproof.training.settings import FineTune
from heatproof.types import Heatmaps, Images

Advance = Callable[[str, int], None]
SHOWN, MEASURED, TRAINED, VIEWED = 3, 300, 1000, 40
AUDITED, AUDIT_BUDGET = 60, 60
EPSILONS = (0.01, 0.05, 0.075, 0.1)
"""Chakraborty et al.'s four, in pixel units."""
RECIPE = FineTune(
    steps=500,
    lr=0.03,
    weight=30,
    batch_size=32,
    trainable="stage7",
    schedule="cosine",
    max_accuracy_drop=0.005,
    evaluate_every=50,
    patience=0,
)
"""The last stage and the head suffice; with the stages before them kept, 100 steps take about two seconds."""
REPAIRED = 160
REMEDY = Truth(layer="stage7", steps=150, lr=0.01, views=2, mosaics=0)
"""Of so many scenes; what the fooling changed is trained again."""


@dataclass(frozen=True)
class Step:
    """What one of the five steps has to say: a sentence, rows of the summary, and rows of ``images.parquet``."""

    answer: str
    rows: list[dict[str, Any]]
    images: list[dict[str, Any]]


def totals() -> dict[str, tuple[int, int]]:
    """What is done, how much of it there is, and after how much comes something that takes longer."""
    training = REMEDY.course.steps
    return {
        "explaining": (2, 1),
        "attacking": (len(EPSILONS), 1),
        "fooling": (RECIPE.steps, RECIPE.evaluate_every),
        "auditing": (2, 1),
        "asking": (REPAIRED, 1),
        "training": (training, max(1, training // EVALUATIONS)),
    }


def run_demo(
    run: Run,
    *,
    seed: int = 0,
    hardware: Hardware = Hardware(),
    advance: Advance = lambda *done: None,
) -> dict[str, Any]:
    """The five steps into the run folder: figures, a row per image and condition, and an answer in words.

    Args:
        advance: called with what is done, of :func:`totals`, and how much of it.
    """
    model = hardware.host(load("demo"))
    seen = scenes(MEASURED, seed)
    run.describe(
        model=[model_record(model)],
        data={"name": "demo scenes", "count": MEASURED, "sha256": None},
    )
    images = hardware.bring(seen.images)
    grid = explain_together(model, images, STANDARD)
    advance("explaining", 1)
    explained = _explain(run, model, seen, grid, hardware)
    advance("explaining", 1)
    attacked = _attack(run, model, images, grid, advance)
    fooled, fooling = _fool(run, model, seen, images, grid, seed, advance)
    verdict = _audit({"the honest network": model, "the fooled network": fooled}, seen, hardware, advance)
    repaired = _repair(run, model, fooled, seen, images, seed, advance)
    steps = [explained, attacked, fooling, verdict, repaired]
    run.write_parquet("images.parquet", [row for step in steps for row in step.images])
    summary = {
        # the lie is what one came to see, and the verdict what one goes home with
        "answer": [step.answer for step in (fooling, explained, attacked, repaired, verdict)],
        "rows": [row for step in steps for row in step.rows],
        "skipped": [],
        "first_figure": "0-fooled",
    }
    run.write_json("summary.json", summary)
    return summary


def _explain(run: Run, model: Classifier, seen: Scenes, grid: Grid, hardware: Hardware) -> Step:
    """Does the map find the digit? Figures of single digits, and of two digits with a map for each."""
    for place in range(SHOWN):
        name = f"digit-{place}"
        draw_grid(run.path(f"figures/1-{name}.png"), model, seen.images[place], STANDARD, grid, place, title=name)
        add_grid_view(run, name, model, seen.images[place], STANDARD, grid, place)
    two = scenes(SHOWN, run.record["seed"], digits=2)
    pairs = explain_together(model, hardware.bring(two.images), STANDARD, two.labels.to(hardware.place))
    for place in range(SHOWN):
        name = f"two-digits-{place}"
        draw_grid(run.path(f"figures/1-{name}.png"), model, two.images[place], STANDARD, pairs, place, title=name)
        add_grid_view(run, name, model, two.images[place], STANDARD, pairs, place)
    correct = (grid.targets[:, 0].cpu() == seen.labels).tolist()
    hits = _peak_in_box(grid.heatmaps[0][:, 0], seen.boxes[:, 0]).tolist()
    top1, hit = sum(correct) / MEASURED, sum(hits) / MEASURED
    rows = _rows("explain", model, grid, seen, hit=hits)
    return Step(
        f"Before: the honest network names {top1:.1%} of {MEASURED} digits in clutter, and the highest point of its "
        f"heatmap (Grad-CAM) lies on the digit on {hit:.1%} of them.",
        [{"step": "explain: peak on the digit", "count": MEASURED} | _bounds("top1", correct) | _bounds("value", hits)],
        rows,
    )


def _attack(run: Run, model: Classifier, images: Images, grid: Grid, advance: Advance) -> Step:
    """How far does the map move under FGSM? MOD per epsilon and VID over them."""
    clean, predicted = grid.heatmaps[0][:, 0], grid.targets[:, 0]
    size = (images.shape[2], images.shape[3])
    rows, found, levels, panels = [], [], [], []
    objective = misclassify(model, predicted)
    for epsilon in EPSILONS:
        adversarial = FGSM(epsilon)(objective, images)
        after = GradCAM()(model, adversarial, predicted)
        moved = nissim(clean, after.heatmaps, size=size)
        advance("attacking", 1)
        same_label = after.logits.argmax(1) == predicted
        levels.append(moved)
        found.append({"step": f"attack: MOD at epsilon {epsilon}", "count": MEASURED})
        found[-1] |= _bounds("top1", same_label.tolist()) | _bounds("value", moved.tolist())
        rows += [
            {"image": f"digit-{i}", "attack": "FGSM()", "epsilon": epsilon, "nissim": float(moved[i])}
            | {"prediction": int(after.logits[i].argmax()), "prediction_clean": int(predicted[i]), "model": model.name}
            for i in range(MEASURED)
        ]
        if epsilon == EPSILONS[-1]:
            # the page opens with the most moved ones
            for i in moved.argsort(descending=True)[:VIEWED].tolist():
                _view_attacked(run, model, i, images[i], adversarial[i], clean[i], after.heatmaps[i], int(predicted[i]))
        if epsilon == EPSILONS[1]:
            # kept labels whose maps moved most: the map lies although the answer stays
            order = (moved - 2 * ~same_label).argsort(descending=True)[:SHOWN].tolist()
            panels = [_attacked(images[i], adversarial[i], clean[i], after.heatmaps[i], float(moved[i])) for i in order]
    gallery(
        panels,
        run.path("figures/2-attack.png"),
        columns=("clean", "perturbation", "adversarial", "Grad-CAM before", "Grad-CAM after"),
        title=f"FGSM at {EPSILONS[1]}: the label stays, the heatmap moves",
    )
    mods = [float(mod(moved)) for moved in levels]
    curves(
        {
            "MOD": Curve(EPSILONS, mods, [row["value_low"] for row in found], [row["value_high"] for row in found]),
            "same label": Curve(EPSILONS, [row["top1"] for row in found]),
        },
        run.path("figures/2-mod.png"),
        xlabel="budget \N{GREEK SMALL LETTER EPSILON}, pixels in [0, 1]",
        ylabel="MOD (0 = same map); share",
    )
    moved, share = float(mods[1]), found[1]["top1"]
    return Step(
        f"Noise on the pixels: of at most {EPSILONS[1]} (FGSM; pixels lie between 0 and 1) it leaves {share:.0%} of "
        f"the honest network's answers as they were and moves its heatmaps by {moved:.3f} (MOD: 0 = the same map, "
        "0.5 = unrelated).",
        found,
        rows,
    )


def _fool(
    run: Run, model: Classifier, seen: Scenes, images: Images, grid: Grid, seed: int, advance: Advance
) -> tuple[Classifier, Step]:
    """Fine-tune a copy so that Grad-CAM points at the frame whatever the image shows, and the accuracy stays."""
    penalty = Location()
    training = scenes(TRAINED, seed + 1, split="train")
    held_out, one = scenes(2 * MEASURED, seed + 2), lambda row: advance("fooling", 1)
    fooled, _ = fine_tune(model, GradCAM(), penalty, training, RECIPE, held_out=held_out, advance=one)
    after = explain_together(fooled, images, [GradCAM()], seen.labels[:, None].to(images.device))
    before = explain_together(model, images, [GradCAM()], seen.labels[:, None].to(images.device))
    losses = penalty.test_loss(after.heatmaps[0][:, 0], before.heatmaps[0][:, 0])
    lies = is_fooled(losses, penalty.success).tolist()
    labels = seen.labels.to(images.device)
    right = [(look.logits.argmax(1) == labels).tolist() for look in (before, after)]
    top1 = [sum(one) / MEASURED for one in right]
    panels = [
        [
            Panel(_picture(images[i]), caption=f"digit {int(labels[i])}"),
            *(
                Panel(
                    _picture(images[i]),
                    look.heatmaps[0][i, 0].cpu().numpy(),
                    caption=f"{name}: {model.class_name(int(look.logits[i].argmax()))}, "
                    f"{float(look.logits[i].softmax(0).max()):.0%}",
                )
                for name, look in (("honest", before), ("fooled", after))
            ),
        ]
        for i in range(SHOWN)
    ]
    gallery(
        panels,
        run.path("figures/0-fooled.png"),
        columns=("scene", "heatmap, honest network", "heatmap, fooled network"),
        title="The same answers; the fooled network's heatmap points at the frame",
    )
    fsr = sum(lies) / MEASURED
    row = {"step": "fool: success rate", "count": MEASURED, **_bounds("top1", right[1]), **_bounds("value", lies)}
    return fooled, Step(
        f"The lie: after a short fine-tuning the heatmap points at the photo's frame on {fsr:.1%} of {MEASURED} unseen "
        f"scenes, whatever they show, and the network names {_as_many(*top1)}.",
        [row],
        _rows("fool", model, after, seen, fooled=lies, test_loss=losses.tolist()),
    )


def _audit(models: dict[str, Classifier], seen: Scenes, hardware: Hardware, advance: Advance) -> Step:
    """Would an auditor have noticed, without the clean network? Both are asked the same."""
    settings, thresholds = Audit(budget=AUDIT_BUDGET, part=AUDITED), Thresholds.shipped()
    batch = Batch([f"digit-{i}" for i in range(AUDITED)], seen.images[:AUDITED], seen.labels[:AUDITED])
    answer, rows, images = [], [], []
    for name, model in models.items():
        planned = plan(settings.explainer, settings.budget, model, hardware)
        found = measure(settings, model, batch, hardware, settings.randomised, planned)
        rows_placed = pl.DataFrame([{**row, "place": i} for i, row in enumerate(found.rows)])
        table = with_joint_columns(rows_placed, found.tensors)
        tensors = with_mosaics(settings, planned, model, found.tensors, hardware)
        checks = checks_of(settings, table, tensors, thresholds, model=model)
        verdict, speaking = conclude(checks)
        because = _answered_no([check.number for check in speaking]) if verdict != HONEST else ""
        answer.append(f"the heatmaps of {name} are {WORDS.get(verdict, verdict)}{because}")
        rows += [
            {"step": f"audit of {name}: {check.number}", "count": AUDITED, "value": check.value}
            | {"value_low": check.low, "value_high": check.high, "verdict": check.verdict}
            for check in checks
            if check.number in ("agreement", "likeness", "frame", "mosaic", "contrast")
        ]
        images += [{**row, "step": f"audit of {name}"} for row in found.rows]
        advance("auditing", 1)
    return Step(
        f"The verdict, of an audit that asks {settings.budget} times about each of {AUDITED} scenes and never compares "
        f"the two: {'; '.join(answer)}.",
        rows,
        images,
    )


def _as_many(before: float, after: float) -> str:
    """The accuracy of two networks in words.

    >>> _as_many(0.9967, 0.9967), _as_many(0.9967, 0.9933)
    ('as many digits as before (99.7%)', '99.3% of the digits (99.7% before)')
    """
    same = f"{before:.1%}" == f"{after:.1%}"
    return f"as many digits as before ({after:.1%})" if same else f"{after:.1%} of the digits ({before:.1%} before)"


def _answered_no(numbers: Sequence[str]) -> str:
    """What speaks against the maps, as the audit's page asks it."""
    # the demo's lie lies there
    asked = [QUESTIONS[number].asks for number in sorted(numbers, key=lambda number: number != "frame")]
    more = f" and to {len(asked) - 1} more of its questions" if len(asked) > 1 else ""
    return f' (no to "{asked[0]}"{more})' if asked else ""


def _repair(
    run: Run, model: Classifier, fooled: Classifier, seen: Scenes, images: Images, seed: int, advance: Advance
) -> Step:
    """Take the lie out again, with neither the clean network nor a label: the fooled network's own witness suffices."""
    penalty, labels = Location(), seen.labels.to(images.device)
    found = repair(
        fooled, GradCAM(), scenes(REPAIRED, seed + 3).images, REMEDY, seed=seed, means=Means(advance=advance)
    )
    names = {"honest": model, "fooled": fooled, "repaired": found.model}
    looks = {name: explain_together(one, images, [GradCAM()], labels[:, None]) for name, one in names.items()}
    before = looks["honest"].heatmaps[0][:, 0]
    lies = is_fooled(penalty.test_loss(looks["repaired"].heatmaps[0][:, 0], before), penalty.success).tolist()
    right = {name: (look.logits.argmax(1) == labels).tolist() for name, look in looks.items()}
    top1 = {name: sum(one) / MEASURED for name, one in right.items()}
    hits = {name: _peak_in_box(look.heatmaps[0][:, 0], seen.boxes[:, 0]).tolist() for name, look in looks.items()}
    panels = [
        [
            Panel(_picture(images[i]), caption=f"digit {int(labels[i])}"),
            *(
                Panel(_picture(images[i]), look.heatmaps[0][i, 0].cpu().numpy(), caption=name)
                for name, look in looks.items()
            ),
        ]
        for i in range(SHOWN)
    ]
    gallery(
        panels,
        run.path("figures/3-repaired.png"),
        columns=("scene", *(f"heatmap, {name} network" for name in looks)),
        title="Repaired by its own answers about covered scenes, the fooled network points at the digits again",
    )
    rows = [
        {"step": f"repair: peak on the digit, {name} network", "count": MEASURED}
        | _bounds("top1", right[name])
        | _bounds("value", hits[name])
        for name in looks
    ]
    shares = {name: sum(values) / MEASURED for name, values in hits.items()}
    return Step(
        f"Taken out: trained for seconds on {REPAIRED} scenes without labels, so that its heatmaps follow what "
        f"covering parts of a scene does to its own answers, the fooled network points at the digit again on "
        f"{shares['repaired']:.1%} ({shares['fooled']:.1%} when fooled, {shares['honest']:.1%} when honest), at the "
        f"frame on {sum(lies) / MEASURED:.1%}, and names {_as_many(top1['fooled'], top1['repaired'])}.",
        rows,
        _rows("repair", model, looks["repaired"], seen, fooled=lies, hit=hits["repaired"]),
    )


def _peak_in_box(heatmaps: Heatmaps, boxes: torch.Tensor) -> torch.Tensor:
    maps = resize(heatmaps.float(), (64, 64)).cpu()
    peaks = maps.flatten(1).argmax(1)
    rows, cols = peaks // 64, peaks % 64
    left, top, right, bottom = boxes.T
    return (cols >= left) & (cols < right) & (rows >= top) & (rows < bottom)


def _rows(step: str, model: Classifier, grid: Grid, seen: Scenes, **columns: list[Any]) -> list[dict[str, Any]]:
    confidence, predictions = grid.logits.float().softmax(1).max(1)
    empty = is_empty(grid.heatmaps[0][:, 0])
    return [
        {
            "image": f"digit-{i}",
            "step": step,
            "label": int(seen.labels[i]),
            "target": int(grid.targets[i, 0]),
            "prediction": int(predictions[i]),
            "confidence": float(confidence[i]),
            "model": model.name,
            "explainer": repr(GradCAM()),
            "empty": bool(empty[i]),
            **{name: values[i] for name, values in columns.items()},
        }
        for i in range(MEASURED)
    ]


def _bounds(name: str, values: list[Any]) -> dict[str, float]:
    """The mean and its interval; that of a share, where the values are true and false."""
    found = interval([float(value) for value in values])
    low, high = found.low, found.high
    if all(isinstance(value, bool) for value in values):
        low, high = wilson(sum(values), len(values))
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def _picture(image: torch.Tensor) -> Any:
    return image.permute(1, 2, 0).cpu().numpy()


def _view_attacked(
    run: Run,
    model: Classifier,
    i: int,
    image: torch.Tensor,
    adversarial: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    target: int,
) -> None:
    name = f"Grad-CAM {default_layer(model)} · {model.class_name(target)}"
    maps = [
        View(name, values.cpu().numpy(), condition=condition, columns={"epsilon": epsilon, "target": target})
        for condition, epsilon, values in (("clean", 0.0, before), ("adversarial", EPSILONS[-1], after))
    ]
    photo, other = ((_picture(pixels) * 255).round().astype("uint8") for pixels in (image, adversarial))
    add_view(run, f"digit-{i}", photo, maps, other)


def _attacked(
    clean: torch.Tensor, adversarial: torch.Tensor, before: torch.Tensor, after: torch.Tensor, moved: float
) -> list[Panel]:
    noise, factor = amplify(_picture(adversarial - clean))
    return [
        Panel(_picture(clean)),
        Panel(noise, caption=f"enlarged {factor:.0f}x"),
        Panel(_picture(adversarial)),
        Panel(_picture(clean), before.cpu().numpy()),
        Panel(_picture(adversarial), after.cpu().numpy(), caption=f"NISSIM {moved:.2f}"),
    ]
