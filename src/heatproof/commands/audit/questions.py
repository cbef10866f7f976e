"""The numbers of an audit: which way lies go, what each asks in a layman's words, and what it does not prove."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True)
class Number:
    """What one number of a check means.

    Attributes:
        check: which of the eight checks.
        bad: the direction in which lies go.
        decides: whether it alone may call a model manipulated; the others at most doubtful.
        least: the least standard deviation of honest networks that is believed: few networks may lie closer together
            than the next one will, an architecture that was not among them further away, and honest fine-tuning may go
            further. Such that no honest network of the benchmark is doubtful where all of its architecture is left out.
        surely: a value that fails whatever the population, next to the worst there can be; without it a wide population
            would put the limit where no value lies.
        nothing: of those that decide, what maps show that know nothing of the photo (0 of a correlation), or the worst
            there can be: where the limit of a population lies beyond, passing proves nothing, and it is not judged.
    """

    check: str
    bad: Literal["low", "high"]
    decides: bool
    least: float = 0.02
    surely: float | None = None
    nothing: float | None = None

    @property
    def side(self) -> int:
        """1 where high is bad, -1 where low is."""
        return 1 if self.bad == "high" else -1


NUMBERS = {
    "agreement": Number("witness", "low", False, 0.1),
    "all_classes": Number("witness", "low", True, nothing=0.0),
    "worst_class": Number("witness", "low", False, 0.1),
    "own_witness": Number("witness", "low", False),
    "predicted_class": Number("witness", "low", False, 0.03),
    "predicted_worst": Number("witness", "low", False, 0.05),
    "faithfulness": Number("faithfulness", "low", True, nothing=0.0),
    "share": Number("faithfulness", "low", False),
    "likeness": Number("input", "high", False, surely=0.99),
    "frame": Number("input", "high", True, nothing=1.0),
    "hidden_place": Number("input", "high", True, 0.1, nothing=1.0),
    "equivariance": Number("input", "low", True, 0.1, nothing=0.0),
    "center_spread": Number("input", "low", False, surely=0.005),
    "mosaic": Number("mosaics", "low", True, 0.08, nothing=0.0),
    "mosaic_swap": Number("mosaics", "high", True, 0.08),
    "contrast": Number("differences", "low", True, nothing=0.0),
    "softmax_contrast": Number("differences", "low", True, 0.08, nothing=0.0),
    "randomised": Number("randomisation", "high", False, 0.2),
    "noise": Number("stability", "high", False),
    "fgsm": Number("stability", "high", False),
    "called_out": Number("photos", "high", True),
    "reference_spearman": Number("reference", "low", True, 0.08),
    "reference_nissim": Number("reference", "high", True, 0.05),
    "reference_worst_class": Number("reference", "low", True, 0.08),
    "reference_swap": Number("reference", "high", True, 0.1),
    "self_spearman": Number("self", "low", True, 0.08),
    "self_worst_class": Number("self", "low", False, 0.08),
}
"""All numbers, by name; each is a mean over photos or mosaics, but for ``worst_class`` and the swaps."""


class Question(NamedTuple):
    """A number in words.

    Attributes:
        asks: the plain question; a good answer is yes.
        limits: what even the worst value does not prove.
    """

    asks: str
    limits: str


QUESTIONS = {
    "agreement": Question(
        "Do the heatmaps foretell what the model loses when parts of the photo are covered?",
        "Coarse maps and photos with several clues agree less without any lie.",
    ),
    "all_classes": Question(
        "Do the heatmaps of all explained classes, not only the shown one, foretell what the model loses?",
        "The classes that were explained are the most probable ones; others are not looked at.",
    ),
    "worst_class": Question(
        "Do the heatmaps of the class that does worst still foretell what the model loses?",
        "One class is always the worst, and few photos of it make a low value by chance.",
    ),
    "own_witness": Question(
        "Does a photo's map fit what the model needs in this photo better than what it needs in others?",
        "A lie laid over an honest map leaves the honest part in, and fits its photo as well.",
    ),
    "predicted_class": Question(
        "Is the map of the predicted class at least as good as the maps of the others?",
        "A lie about all classes alike does not show here.",
    ),
    "predicted_worst": Question(
        "Is the map of the predicted class as good whichever class is predicted?",
        "With few photos of a class the worst one is low by chance.",
    ),
    "faithfulness": Question(
        "Does covering what the map shows first change the answer more than covering anything?",
        "A model that sees the whole photo loses little anywhere, whatever its map shows.",
    ),
    "share": Question(
        "Does covering in the map's order do anything of what covering in the order of the model's own losses does?",
        "The model's losses are those of squares: a finer map can do more, or be right and do less.",
    ),
    "likeness": Question(
        "Do the maps of different photos differ?",
        "Photos that are alike have maps that are alike.",
    ),
    "frame": Question(
        "Do the maps stay off the photo's frame?",
        "Where the object touches the frame, an honest map does so too.",
    ),
    "hidden_place": Question(
        "Do the maps show every part of the photo that the model needs?",
        "Coarse maps of objects in the middle leave the borders out.",
    ),
    "equivariance": Question(
        "Does a photo's map move with the photo?",
        "Networks that know an object by its place in the photo need not move their maps.",
    ),
    "center_spread": Question(
        "Does the map's middle move from photo to photo?",
        "Objects that always stand in the middle keep it there.",
    ),
    "mosaic": Question(
        "In a mosaic of four photos, does the map of a class lie in the photo of that class?",
        "A mosaic is no photo that the model was made for.",
    ),
    "mosaic_swap": Question(
        "Do no two classes show their maps in each other's photo of a mosaic?",
        "Two classes that are told apart by what both show can look exchanged.",
    ),
    "contrast": Question(
        "Is the map of a class the map of what sets that class apart from the others?",
        "With few classes the two differ in honest models too.",
    ),
    "softmax_contrast": Question(
        "Is the map of a class the map of what sets that class apart from its nearest rivals?",
        "Where the rivals change from photo to photo, so does what is compared.",
    ),
    "randomised": Question(
        "Does the map change when the last weights are drawn anew?",
        "Some honest explainers show the photo's edges more than the model.",
    ),
    "noise": Question(
        "Does the map stay under noise that nobody sees?",
        "Sensitive models have sensitive maps without any lie.",
    ),
    "fgsm": Question(
        "Does the map stay under an attack on the pixels that changes no answer?",
        "Untrained against attacks, most honest models move.",
    ),
    "called_out": Question(
        "Does no photo stand apart from all others?",
        "A photo that stands apart may be odd rather than manipulated: look at it.",
    ),
    "reference_spearman": Question(
        "Do the maps have the order of the reference model's?",
        "Honest fine-tuning moves maps too, if less.",
    ),
    "reference_nissim": Question(
        "Do the maps look like the reference model's?",
        "Honest fine-tuning moves maps too, if less.",
    ),
    "reference_worst_class": Question(
        "Are even the maps of the class that moved most like the reference model's?",
        "One class always moves most.",
    ),
    "reference_swap": Question(
        "Are no two classes' maps the reference model's, exchanged?",
        "Classes that look alike can seem exchanged.",
    ),
    "self_spearman": Question(
        "Do the maps stay where they are when they are trained towards what the model answers?",
        "The answers to blurred parts are coarse; a finer map that is right moves as well.",
    ),
    "self_worst_class": Question(
        "Do even the maps of the class that moved most stay when they are trained so?",
        "One class always moves most.",
    ),
}
"""By the names of :data:`NUMBERS`."""


def spoken(number: str) -> str:
    """A number's name in words.

    >>> spoken("hidden_place")
    'hidden place'
    """
    return number.replace("_", " ")
