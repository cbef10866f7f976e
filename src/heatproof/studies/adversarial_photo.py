"""One photo talked into another class: where do several networks look before and after?

The original: a Granny Smith that is made an ocarina, on ResNet-50 and VGG-16. Grad-CAM of both classes, before and
after, beside the noise enlarged until it can be seen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from heatproof.attacks.balls import Norm
from heatproof.attacks.gradient import PGD, examine
from heatproof.attacks.objectives import reach
from heatproof.commands.record import data_record, model_record
from heatproof.data.batches import batches
from heatproof.data.sources import open_data
from heatproof.explainers.cam import GradCAM
from heatproof.explainers.together import Grid, explain_together
from heatproof.metrics.similarity import nissim, psnr
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from heatproof.models.layers import default_layer
from heatproof.models.loading import load
from heatproof.report.figures import Panel, amplify, gallery
from heatproof.results.names import slug
from heatproof.results.run import Run
from heatproof.studies.shared import shared
from heatproof.types import Images, settings

PHOTO = "data/imagenet-sample/n07742313/n07742313_Granny_Smith.JPEG"


@settings
class AdversarialPhoto:
    """One photo, its class and a wanted class: Grad-CAM of both before and after a targeted attack.

    Args:
        models: names that ``heatproof explain --model`` takes.
        photo: a file; empty: a Granny Smith of ImageNet, from ``../shared``.
        source: the class that is seen, by name or number.
        wanted: the class that shall be seen.
        epsilon: the ball's radius in pixel units of [0, 1].
        steps: of PGD.
        norm: ``linf`` or ``l2``.
        seed: of the random start.
    """

    models: tuple[str, ...] = ("resnet50", "vgg16")
    photo: str = ""
    source: str | int = "Granny Smith"
    wanted: str | int = "ocarina"
    epsilon: float = 8 / 255
    steps: int = 40
    norm: Norm = "linf"
    seed: int = 0

    columns: ClassVar[dict[str, str]] = {
        "model": "model",
        "source_before": "source before",
        "source_after": "after",
        "wanted_before": "wanted before",
        "wanted_after": "after",
        "psnr": "PSNR",
        "nissim_source": "NISSIM source",
        "nissim_predicted": "NISSIM predicted",
    }

    def __call__(
        self, run: Run, *, hardware: Hardware = Hardware(), say: Callable[[str], None] = print
    ) -> dict[str, Any]:
        photos = open_data(self.photo or str(shared(PHOTO)), classes=None)
        rows, described, answer = [], [], []
        for name in self.models:
            model = hardware.host(load(name))
            described.append(model_record(model))
            image = next(iter(batches(photos, model.preprocessing, 1)))
            row = self._attack(model, hardware, image.images, run.path(f"figures/{slug(model.name)}.png"))
            rows.append({"image": image.ids[0], **row})
            answer.append(_sentence(rows[-1]))
            say(answer[-1])
        run.describe(model=described, data=data_record(photos))
        run.write_parquet("images.parquet", rows)
        summary = {"answer": answer, "rows": rows, "skipped": photos.skipped}
        run.write_json("summary.json", summary)
        return summary

    def _attack(self, model: Classifier, hardware: Hardware, images: Images, figure: Path) -> dict[str, Any]:
        images = hardware.bring(images)
        pair = torch.tensor([[model.class_index(self.source), model.class_index(self.wanted)]], device=images.device)
        attack = PGD(self.epsilon, self.steps, self.norm, seed=self.seed)
        with hardware.autocast():
            goal = reach(model, pair[:, 1])
            done = examine(goal, attack(goal, images), images)
            before = explain_together(model, images, [GradCAM()], pair)
            after = explain_together(model, done.images, [GradCAM()], pair)
            own = [explain_together(model, x, [GradCAM()]) for x in (images, done.images)]
        self._draw(model, images, done.images, before, after, figure)
        probabilities = [grid.logits[0].float().softmax(0) for grid in (before, after)]
        source, wanted = pair[0].tolist()
        maps = [(before.heatmaps[0][:, i].float(), after.heatmaps[0][:, i].float()) for i in (0, 1)]
        predicted = [int(grid.targets[0, 0]) for grid in own]
        return {
            "model": model.name,
            "explainer": repr(GradCAM()),
            "attack": repr(attack),
            "epsilon": self.epsilon,
            "source": model.class_name(source),
            "wanted": model.class_name(wanted),
            "source_before": float(probabilities[0][source]),
            "source_after": float(probabilities[1][source]),
            "wanted_before": float(probabilities[0][wanted]),
            "wanted_after": float(probabilities[1][wanted]),
            "prediction_before": model.class_name(predicted[0]),
            "prediction_after": model.class_name(predicted[1]),
            "success": bool(done.success[0]),
            "linf": float(done.linf[0]),
            "l2": float(done.l2[0]),
            "psnr": float(psnr(done.images, images)[0]) if done.linf[0] > 0 else None,
            "nissim_source": float(nissim(*maps[0], size=model.input_size)[0]),
            "nissim_wanted": float(nissim(*maps[1], size=model.input_size)[0]),
            # what a user would see: the map of the class that is named, before and after
            "nissim_predicted": float(
                nissim(*(grid.heatmaps[0][:, 0].float() for grid in own), size=model.input_size)[0]
            ),
        }

    def _draw(
        self, model: Classifier, images: Images, adversarial: Images, before: Grid, after: Grid, figure: Path
    ) -> None:
        photos = [x[0].permute(1, 2, 0).float().cpu().numpy() for x in (images, adversarial)]
        noise, factor = amplify(photos[1] - photos[0])
        shown = {"clean": (photos[0], before), f"adversarial, epsilon {self.epsilon:.4g}": (photos[1], after)}
        names = [model.class_name(int(c)) for c in before.targets[0]]
        panels = []
        for place, (photo, grid) in enumerate(shown.values()):
            probabilities = grid.logits[0].float().softmax(0).cpu()
            best = probabilities.topk(min(3, len(probabilities)))
            likeliest = [f"{model.class_name(int(c))} {p:.0%}" for p, c in zip(*best, strict=True)]
            maps = [
                Panel(
                    photo=photo,
                    heatmap=grid.heatmaps[0][0, i].float().cpu().numpy(),
                    caption=f"{names[i]} {float(probabilities[grid.targets[0, i]]):.1%}",
                )
                for i in (0, 1)
            ]
            aside = [Panel(), Panel(photo=noise, caption=f"the noise, enlarged {factor:.3g} times")][place]
            panels.append([Panel(photo=photo, caption="; ".join(likeliest)), *maps, aside])
        columns = ["photo", *(f"Grad-CAM of {name}" for name in names), "perturbation"]
        gallery(panels, figure, rows=list(shown), columns=columns, title=f"{model.name}, {default_layer(model)}")


def _sentence(row: dict[str, Any]) -> str:
    if not row["success"]:
        return (
            f"{row['model']}: {row['wanted']} was not reached ({row['wanted_after']:.1%} instead of "
            f"{row['wanted_before']:.1%}; predicted is {row['prediction_after']}); give more steps or a larger epsilon."
        )
    return (
        f"{row['model']}: {row['prediction_before']} becomes {row['prediction_after']} ({row['wanted_after']:.1%}) "
        f"with no pixel changed by more than {255 * row['linf']:.1f}/255 (PSNR {row['psnr']:.1f} dB). The map of the "
        f"named class moves by NISSIM {row['nissim_predicted']:.3f}; that of {row['source']} itself by "
        f"{row['nissim_source']:.3f}."
    )
