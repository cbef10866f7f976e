"""Which photos of a run are drawn and shown in its page: the most interesting ones, found while the photos go by.

Mistakes first, the surest before the others, then what the network is least sure of. Of a photo that is among the first
so far, what is to be drawn waits in the run folder, or it is drawn and its files are deleted when others outdo it: so
neither maps nor photos stay in memory, and several processes need not know of each other.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from heatproof.commands.titles import whereabouts
from heatproof.report.style import percent
from heatproof.report.words import counted
from heatproof.results.reading import read_table
from heatproof.results.run import Run
from heatproof.results.strict import check_columns
from heatproof.results.viewer import view_key

Figures = int | Literal["all"] | None
"""How many photos are drawn; ``None``: all of few, else some (:func:`figure_count`)."""
FEW, SOME = 50, 20
"""Without a word from the user so many photos are all drawn, and of more so many."""
NAMED = 3
"""Photos of which each has a sentence of its own."""
COLUMNS = ("image", "label", "prediction", "confidence")
"""By which photos are chosen."""


def figure_count(figures: Figures, photos: int) -> int:
    """How many of so many photos are drawn.

    >>> figure_count(None, 50), figure_count(None, 51), figure_count("all", 1000), figure_count(30, 7)
    (50, 20, 1000, 7)
    """
    if figures is None:
        return photos if photos <= FEW else SOME
    return photos if figures == "all" else min(figures, photos)


def by_interest(table: pl.DataFrame) -> list[tuple[float, str]]:
    """Each image with its rank, the most interesting first: sure mistakes, then doubtful answers.

    The rank is the confidence, and the negative confidence where the label is known and is another class.
    **Range** [-1, 1]; -2 where the confidence is no number.

    Args:
        table: ``image``, ``label`` (null where it is not known), ``prediction`` and ``confidence``; equal images have
            equal values.

    >>> sure = {"image": ["a", "b"], "label": [1, 2], "prediction": [1, 1], "confidence": [0.3, 0.9]}
    >>> by_interest(pl.DataFrame(sure))
    [(-0.9, 'b'), (0.3, 'a')]
    """
    wrong = (pl.col("label").cast(pl.Int64) != pl.col("prediction")).fill_null(False)
    rank = pl.when(wrong).then(-pl.col("confidence")).otherwise(pl.col("confidence")).fill_nan(None).fill_null(-2.0)
    return table.select(rank.alias("rank"), "image").unique("image").sort("rank", "image").rows()


@dataclass
class Shown:
    """The photos of a run folder that are drawn so far.

    Attributes:
        run: the run folder.
        names: of the pictures, by image (:func:`~heatproof.results.names.figure_names`).
        count: photos at most.
        outdo: whether figures wait until it is known that no other photo outdoes theirs
            (:mod:`heatproof.commands.undrawn`).
    """

    run: Run
    names: Mapping[str, str]
    count: int
    outdo: bool = False
    _first: list[tuple[float, str]] | None = field(default=None, init=False)

    def path(self, image: str) -> str:
        """The picture of an image, within the folder."""
        return f"figures/{self.names[image]}"

    def add(self, rows: Sequence[Mapping[str, Any]]) -> tuple[set[str], list[str]]:
        """Take note of a part's rows.

        Returns:
            The images of the part that are to be drawn, and the earlier ones that they outdo: their files are for
            :meth:`delete`, once the part is kept.
        """
        before = self._begun() if self._first is None else self._first
        own = by_interest(_of(rows)) if rows else []
        # a part that was cut off comes again
        self._first = sorted({*before, *own})[: self.count]
        kept = {image for _, image in self._first}
        return {image for _, image in own} & kept, [image for _, image in before if image not in kept]

    def first(self, alone: bool = True) -> list[str]:
        """The most interesting photos of all parts that are there, the most interesting first.

        Args:
            alone: no other process has measured any meanwhile.
        """
        known = self._first if alone and self._first is not None else self._begun()
        return [image for _, image in known]

    def _begun(self) -> list[tuple[float, str]]:
        """The first of what earlier starts have measured."""
        first: list[tuple[float, str]] = []
        for part in self.run.parts():
            table = read_table(self.run.path(f"parts/{part}.parquet"), [], missing=False)
            # a damaged part is told of when all are joined
            if table is not None and table.height and set(COLUMNS) <= set(table.columns):
                with contextlib.suppress(pl.exceptions.PolarsError):
                    first = sorted({*first, *by_interest(table)})[: self.count]
        return first

    def delete(self, images: Iterable[str]) -> None:
        """Delete pictures and views of these images."""
        for image in images:
            picture = self.run.path(self.path(image))
            view = self.run.path(f"viewer/{view_key(image)}.json")
            for path in (picture, picture.with_suffix(".pdf"), view, view.with_suffix(".webp")):
                path.unlink(missing_ok=True)

    def end(self, table: pl.DataFrame) -> pl.DataFrame:
        """Delete what does not belong to the first of all images, and tell of each row where its figure is.

        Raises:
            RunError: the table holds no rows of an explanation.
        """
        remedy = "delete the files in it and give the same command again"
        check_columns(self.run.path("parts"), table, {"image": pl.String, **dict.fromkeys(COLUMNS[1:])}, remedy)
        first = [image for _, image in by_interest(table)[: self.count]]
        # of a shard that was stopped the rows may be there, and not the figure
        pictures = {image: name for image in first if self.run.path(name := self.path(image)).is_file()}
        kept = {*pictures.values(), *(f"viewer/{view_key(image)}.json" for image in first)}
        for folder, kind in (("figures", ".png"), ("viewer", ".json")):
            for path in self.run.path(folder).glob(f"*{kind}"):
                if f"{folder}/{path.name}" not in kept:
                    for other in (path, path.with_suffix(".pdf" if kind == ".png" else ".webp")):
                        other.unlink(missing_ok=True)
        return table.with_columns(figure=pl.col("image").replace_strict(pictures, default=None, return_dtype=pl.String))


def _of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    # a part may know no label at all
    kinds = {"image": pl.String, "label": pl.Int64, "prediction": pl.Int64, "confidence": pl.Float64}
    return pl.DataFrame([{name: row[name] for name in COLUMNS} for row in rows], schema=kinds)


def seen(table: pl.DataFrame, classless: Collection[str] = ()) -> list[str]:
    """What the network says of the photos and where its maps point: each of a few photos, else all together.

    Args:
        classless: explainers whose map is the same for every class.
    """
    photos = table["image"].n_unique()
    if photos <= NAMED:
        return [
            sentence
            for (image, *_), rows in table.group_by(["image", "model"], maintain_order=True)
            for sentence in _of_photo(str(image), rows.to_dicts(), classless)
        ]
    first = table.unique(["image", "model"], maintain_order=True)
    mean = percent(float(first["confidence"].to_numpy().mean()))
    sure = f"the network's answers have a probability of {mean} on average"
    labelled = first.filter(pl.col("label").is_not_null())
    right = int((labelled["label"] == labelled["prediction"]).sum())
    named = f" and are right on {right} of {labelled.height}" if labelled.height else ""
    empty = int(table["empty"].sum())
    none = f"{empty} of {table.height} maps are empty" if empty else f"none of the {table.height} maps is empty"
    return [f"{counted(photos)}: {sure}{named}; {none}."]


def _of_photo(image: str, rows: Sequence[Mapping[str, Any]], classless: Collection[str]) -> list[str]:
    """The answer, and where the map of each explained class lies: of several explainers a sentence for each."""
    first = rows[0]
    said = f"{image}: the network says {first['prediction_name']}, {percent(first['confidence'])}"
    explainers = list(dict.fromkeys(row["explainer"] for row in rows))
    pointed = []
    for explainer in explainers:
        own = [row for row in rows if row["explainer"] == explainer]
        if explainer in classless:
            pointed.append(f"{explainer}: the map, the same for every class, {_where(own[0])}")
            continue
        maps = []
        for row in own:
            share = "" if row["target"] == first["prediction"] else f" ({percent(row['probability'])})"
            maps.append(f"the map of {row['target_name']}{share} {_where(row)}")
        pointed.append(f"{explainer}: {'; '.join(maps)}")
    if len(pointed) == 1:
        return [f"{said}; {pointed[0]}."]
    return [" ".join([f"{said}.", *(f"{one}." for one in pointed)])]


def _where(row: Mapping[str, Any]) -> str:
    """Where a map lies; without a positive part it has no centre."""
    if row["empty"]:
        return "is empty"
    if row["maximum"] <= 0:
        # a counterfactual map has the other sign
        way = "against" if "counterfactual=True" in row["explainer"] else "for"
        return f"is negative throughout, nothing in it speaks {way} {row['target_name']}"
    return f"lies {whereabouts(row['center_row'], row['center_col'])}"


def told(count: int, photos: int, labelled: bool) -> list[str]:
    """Which photos were drawn, in a sentence; nothing where all were."""
    if count >= photos:
        return []
    unsure = "those that the network is least sure of"
    which = f"mistakes first, the surest before the others, then {unsure}" if labelled else unsure
    return [f"{count} of {photos} photos are drawn: {which}; --figures all draws every photo."]
