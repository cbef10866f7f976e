"""A job in shards: processes that share no folder and no network, of which each does its own share of the parts.

``heatproof VERB ... --shard 2/8`` does the second of eight shares into a run folder of its own, and ``heatproof merge``
joins the eight folders. Nothing is agreed upon while they run: which parts are whose follows from two numbers.
"""

from dataclasses import dataclass

from heatproof.errors import SpecError

MOST = 10**6
"""Shards of a job."""


@dataclass(frozen=True)
class Shard:
    """Which share of a job's parts is done here; all of them by default.

    Attributes:
        number: from 1 on; 0 does none of the parts: a run that only ends what shards have done.
        count: of the shards.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> "Shard":
        """What ``--shard`` says.

        >>> Shard.read("2/8")
        Shard(number=2, count=8)

        Raises:
            SpecError: it is not ``k/n`` with k from 1 to n.
        """
        number, slash, count = text.strip().partition("/")
        digits = all(part.isascii() and part.isdigit() and len(part) <= len(str(MOST)) for part in (number, count))
        if not slash or not digits or not 1 <= int(number) <= int(count) <= MOST:
            raise SpecError(
                f"a shard is k/n, the k-th of n from 1/n to n/n and n at most {MOST:,}, such as 2/8, got {text!r}"
            )
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def is_share(self) -> bool:
        """Whether it is less than the whole job and more than nothing of it."""
        return self.number > 0 and self.count > 1

    def parts(self, total: int) -> range:
        """The numbers of its parts, of ``total``: every ``count``-th, so that all shards meet all of the data.

        >>> list(Shard(2, 3).parts(8)), list(Shard().parts(3)), list(Shard(0, 3).parts(8))
        ([1, 4, 7], [0, 1, 2], [])
        """
        return range(self.number - 1, total, self.count) if self.number else range(0)


WHOLE = Shard()
"""All of a job."""
