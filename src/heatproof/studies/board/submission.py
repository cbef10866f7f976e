"""What others hand in: a checkpoint, an explainer, and claims that are measured again."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from heatproof.errors import InputError, did_you_mean
from heatproof.models.classifier import Classifier
from heatproof.studies.board.columns import BY_NAME, MOVED
from heatproof.studies.board.networks import NETWORKS
from heatproof.types import Attack, BallAttack, Explainer, settings

SUBMITTED = "submitted"
"""The defence of a row that was handed in."""
KEYS = ("name", "network", "checkpoint", "explainer", "adaptive", "claims")
"""Of ``board.json``, all of them needed."""
CLAIMED = {**{name: column.better for name, column in BY_NAME.items()}, "top1": "up"}
"""What may be claimed, and which end is better."""


@settings
class Submission:
    """A row that somebody hands in.

    Args:
        name: of the row.
        network: of the board; the checkpoint is of its architecture.
        checkpoint: a safetensors file of the network's weights, in the folder.
        explainer: with its defence.
        adaptive: attackers who know it, beside the board's own.
        claims: (column, number), which are measured again.
        sha256: of the checkpoint.

    Raises:
        InputError: another network or column, or claims without those of the attacker who knows the defence.
    """

    name: str
    network: str
    checkpoint: str
    explainer: Explainer
    adaptive: tuple[Attack, ...]
    claims: tuple[tuple[str, float], ...]
    sha256: str = ""

    def __post_init__(self) -> None:
        where = f"board.json of {self.name!r}"
        if self.network not in NETWORKS:
            raise InputError(
                f"{where}: the board has no network {self.network!r}; {did_you_mean(self.network, NETWORKS)}"
            )
        names = [name for name, _ in self.claims]
        if not names:
            raise InputError(f"{where} claims nothing: claims are columns of the board with numbers, for example pgd")
        for name in names:
            if name not in CLAIMED:
                raise InputError(
                    f"{where} claims {name!r}, which is no column of the board; {did_you_mean(name, CLAIMED)}"
                )
        if not self.adaptive:
            raise InputError(
                f"{where} names no adaptive attack: a defence counts only against an attacker who knows it; name those "
                'you tried, for example "adaptive": ["pgd(epsilon=4/255, steps=50)"]'
            )
        for claim, needed in (*((name, "pgd") for name in MOVED), ("fooled", "fooled_knowing")):
            if claim in names and needed not in names:
                raise InputError(
                    f"{where} claims {claim} without {needed}: what a defence withstands counts only beside what is "
                    f"left under the attacker who knows it; claim {needed} as well"
                )

    def held(self, epsilon: float) -> tuple[Attack, ...]:
        """Its attackers, who may not go farther than the board's.

        Raises:
            InputError: one goes farther or not as far, or has no radius.
        """
        for attack in self.adaptive:
            if not isinstance(attack, BallAttack) or abs(attack.epsilon - epsilon) > 1e-6:
                raise InputError(
                    f"{self.name}: the adaptive attack {attack!r} has another budget than the board, whose epsilon is "
                    f"{epsilon:.4g}; name an attack with epsilon={epsilon:.6g}"
                )
        return self.adaptive

    def load(self, model: Classifier) -> Classifier:
        """The board's network with the weights that were handed in.

        Raises:
            InputError: the file cannot be read, was changed, or holds another network.
        """
        file = Path(self.checkpoint)
        if self.sha256 and hash_of(file) != self.sha256:
            raise InputError(f"{file} is not the file any more that {self.name} was read with")
        made = copy.deepcopy(model)
        try:
            made.network.load_state_dict(load_file(file))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} is no safetensors file that can be read ({error})") from error
        except RuntimeError as error:
            reason = str(error).splitlines()
            raise InputError(
                f"{file} does not fit {self.network}: {' '.join(line.strip() for line in reason[1:3])[:300]}"
            ) from error
        made.name = self.name
        return made.eval()


def hash_of(file: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def verdicts(submission: Submission, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each claim beside what was measured; it is met where it is not better than the better end of the interval.

    Args:
        row: of the board.
    """
    found = []
    for name, claimed in submission.claims:
        value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
        up = CLAIMED[name] == "up"
        best = (high if up else low) if (low is not None and high is not None) else value
        met = best is not None and (claimed <= best + 1e-9 if up else claimed >= best - 1e-9)
        found.append({"claim": name, "claimed": claimed, "value": value, "low": low, "high": high, "met": bool(met)})
    return found


def told(submission: Submission, judged: Sequence[Mapping[str, Any]]) -> list[str]:
    """What became of a submission, in sentences with both numbers."""
    met = sum(one["met"] for one in judged)
    verdict = "accepted" if met == len(judged) else "refused"
    lines = [f"{submission.name} is {verdict}: {met} of {len(judged)} claims are met."]
    for one in judged:
        if one["value"] is None:
            lines.append(
                f"{submission.name} claims {one['claim']} {one['claimed']:.3g}: it could not be measured here."
            )
            continue
        span = "" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]"
        lines.append(
            f"{submission.name} claims {one['claim']} {one['claimed']:.3g}, measured {one['value']:.3f}{span}: "
            f"{'met' if one['met'] else 'not met'}."
        )
    return lines
