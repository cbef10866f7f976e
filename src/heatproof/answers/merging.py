"""The shards of a job joined from Python."""

from collections.abc import Sequence
from pathlib import Path

from heatproof.results.joining import join, read_shards


def merge(
    runs: Sequence[Path | str], *, out: Path | str | None = None, partial: bool = False, overwrite: bool = False
) -> Path:
    """Join the run folders of a job's shards; the same call as theirs, without ``shard=``, then makes the end.

    ::

        for k in (1, 2, 3):  # each on a machine of its own
            hp.shift(model, photos, shard=f"{k}/3", out=f"part-{k}")
        hp.shift(model, photos, out=hp.merge(["part-1", "part-2", "part-3"], out="whole"))

    The tables are those of one process. Nothing that a folder names is run.

    Args:
        runs: the folders, in any order.
        out: the folder that is made.
        partial: go on without shards that are missing or not done; the call that makes the end then does their share.
        overwrite: empty ``out`` first, where it holds a run.

    Returns:
        The folder, for ``out=`` of the call that makes the end.

    Raises:
        HeatproofError: shards that are missing, there twice, not done, cut off, or do not fit each other.
    """
    return join(read_shards(runs, partial=partial), out, overwrite=overwrite).folder
