"""The columns of the board: what each measures, its formula, its source and its better end."""

from typing import Literal, NamedTuple

Better = Literal["up", "down"]


class Column(NamedTuple):
    """A column of the board.

    Attributes:
        name: in ``cells.parquet`` and in claims.
        group: of section 7 of the design: ``moved``, ``fooled``, ``certified``, ``faithful``, ``sane``, ``cost``.
        better: which end.
        meaning: a sentence.
        formula: in words.
        source: of the measure.
        drawn: its value depends on a seed also where the explainer draws nothing.
        judged: it may decide; others are told.
    """

    name: str
    group: str
    better: Better
    meaning: str
    formula: str
    source: str
    drawn: bool = False
    judged: bool = True

    @property
    def arrow(self) -> str:
        return "\N{UPWARDS ARROW}" if self.better == "up" else "\N{DOWNWARDS ARROW}"

    def help(self, tau: str) -> str:
        """What the page says of it.

        Args:
            tau: how well its ranks are known, in a sentence.
        """
        end = "higher is better" if self.better == "up" else "lower is better"
        return f"{self.meaning} {self.formula} ({end}; {self.source}). {tau}"


OVERLAP = "Share of the top 10% of cells of the clean map that are among the top 10% of the moved one"
COLUMNS = (
    Column(
        "noise",
        "moved",
        "up",
        "What is left of the map under noise that nobody aimed.",
        f"{OVERLAP}, every pixel \N{PLUS-MINUS SIGN}epsilon at random",
        "Ghorbani et al. 2019",
        drawn=True,
    ),
    Column(
        "fgsm",
        "moved",
        "up",
        "What is left under one step against the map by an attacker who knows the explainer with its defence.",
        f"{OVERLAP}, after x + epsilon sign(gradient of the map's top-k penalty); the photo stays where its class "
        "would change",
        "Goodfellow et al. 2015, Ghorbani et al. 2019",
    ),
    Column(
        "naive",
        "moved",
        "up",
        "What is left under an attacker who knows the explainer and not its defence.",
        f"{OVERLAP}, after PGD against the plain explainer's map, the class held",
        "Madry et al. 2018, Ghorbani et al. 2019",
        drawn=True,
    ),
    Column(
        "pgd",
        "moved",
        "up",
        "What is left under an attacker who knows the defence and climbs the defended map, noise drawn anew in every "
        "step.",
        f"{OVERLAP}, after PGD against this row's own map, the class held",
        "Madry et al. 2018, Ghorbani et al. 2019, Athalye et al. 2018",
        drawn=True,
    ),
    Column(
        "patch",
        "moved",
        "up",
        "What is left when the pixels of one corner, 5% of the photo, are an attacker's who knows the defence.",
        f"{OVERLAP}, after PGD on the patch against this row's own map, the class held",
        "Brown et al. 2017, Subramanya et al. 2019",
        drawn=True,
    ),
    Column(
        "corruption",
        "moved",
        "up",
        "What is left under fog, blur, noise, low contrast and JPEG.",
        f"{OVERLAP}, mean over the kinds at one severity; the clean photo's class is explained",
        "Hendrycks and Dietterich 2019",
        drawn=True,
    ),
    Column(
        "fooled",
        "fooled",
        "down",
        "How often the map lies as wanted on a network that was fooled through plain Grad-CAM.",
        "Fooling success rate on the board's photos, of the checkpoint with the highest rate within the budget of "
        "accuracy",
        "Heo et al. 2019",
        drawn=True,
    ),
    Column(
        "fooled_knowing",
        "fooled",
        "down",
        "How often the map lies as wanted on a network that was fooled through this row's own defended map.",
        "Fooling success rate as before; measured where the map is coarser than half the photo and takes few passes",
        "Heo et al. 2019",
        drawn=True,
    ),
    Column(
        "certified",
        "certified",
        "up",
        "Which share of the map no change inside the radius can undo.",
        "The defence's own certificate",
        "Levine et al. 2019, Anani et al. 2025",
        judged=False,
    ),
    Column(
        "aopc",
        "faithful",
        "up",
        "How fast the answer falls when squares go, the most relevant first.",
        "Mean fall of the class's probability over the squares removed, noise in their place",
        "Samek et al. 2017, eq. 12",
        drawn=True,
    ),
    Column(
        "deletion",
        "faithful",
        "down",
        "The answer that is left while pixels go black, the most relevant first.",
        "Area under the class's probability over the share of pixels deleted",
        "Petsiuk et al. 2018",
    ),
    Column(
        "road",
        "faithful",
        "down",
        "The answer that is left when pixels are imputed from their neighbours, the most relevant first.",
        "Mean probability of the class with 10, 30 and 50% of the pixels removed",
        "Rong et al. 2022",
        drawn=True,
    ),
    Column(
        "mosaic",
        "faithful",
        "up",
        "Whether the map of a class lies on the photo of that class among four.",
        "(share of the positive map in the class's quarter - 1/4) / (3/4), of a mosaic with three photos of other "
        "classes",
        "Boehle et al. 2021, Arias-Duart et al. 2022; chance taken off is ours",
    ),
    Column(
        "randomised",
        "sane",
        "down",
        "Whether the map stays what it was when the network's last blocks are drawn anew.",
        "Rank correlation of the absolute maps before and after, mean over the last blocks, one after the other",
        "Adebayo et al. 2018",
        drawn=True,
    ),
    Column(
        "lead",
        "sane",
        "up",
        "Whether the map shows what speaks for the class against the others.",
        "Rank correlation with the map of the logit's lead over the mean of the others",
        "arXiv 2506.08514; the measure is ours",
        # near 1 for every explainer where logits sum to a constant: the order is one of rounding
        judged=False,
    ),
    Column(
        "passes",
        "cost",
        "down",
        "What a map costs.",
        "Photos that go through the network, forwards and backwards, for one map",
        "counted",
        judged=False,
    ),
)
BY_NAME = {column.name: column for column in COLUMNS}
MOVED = ("noise", "fgsm", "naive", "patch", "corruption")
"""Claims of stability, which need the adaptive attacker's beside them."""
KEPT = ("spearman", "nissim", "kept")
"""Beside the overlap of each column that moves maps: rank correlation, NISSIM, and whether the class stayed."""
