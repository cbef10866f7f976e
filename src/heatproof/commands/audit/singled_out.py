"""What an audit says of lies that are told of some only: of the predicted class, of one class, of one place.

Other classes' maps of the same photos, and other places of the same maps, are the controls.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.commands.audit.kept import Maps, Witnesses, in_parts

FEWEST = 5
"""Photos that are taken for a class, for it to be looked at."""
PRIOR = 5
"""Each class is drawn to the mean of all photos as if that had been seen so often more: one photo does not decide."""
PLACES = {
    "left third": (1, 3, 0),
    "middle third across": (1, 3, 1),
    "right third": (1, 3, 2),
    "upper third": (3, 1, 0),
    "middle third down": (3, 1, 1),
    "lower third": (3, 1, 2),
    "upper left quarter": (2, 2, 0),
    "upper right quarter": (2, 2, 1),
    "lower left quarter": (2, 2, 2),
    "lower right quarter": (2, 2, 3),
}
"""Rows and columns of a grid, and which of its cells. Smaller places, corners above all, honest maps leave out too."""


def predicted_class(agreement: Float[Tensor, "photos classes"]) -> list[float]:
    """Per photo, how much better the predicted class's map agrees than the other classes' maps do on average.

    The agreement is that of a class's map with the fall of its lead. A lie that is told of the predicted class while
    all other maps stay as they were has it low; one that is told of all classes has not. [ours] **Range** [-2, 2], 0:
    as well; NaN where one side is not known.

    Args:
        agreement: the predicted class first.

    >>> predicted_class(torch.tensor([[0.5, 0.25, 0.25]]))
    [0.25]
    """
    known = agreement.double()
    if known.shape[1] < 2:
        return []
    return (known[:, 0] - known[:, 1:].nanmean(1)).tolist()


def predicted_worst(
    agreement: Float[Tensor, "photos classes"], targets: Int[Tensor, "photos classes"]
) -> tuple[list[float], int] | None:
    """The same of the photos taken for the class that does it worst: a lie told of one class.

    Each class with :data:`FEWEST` photos is drawn to the mean of all as if that had been seen :data:`PRIOR` times more.

    Returns:
        The values of that class's photos, whose mean is the number, and the class; ``None`` where no class has enough.

    >>> low = torch.tensor([[0.0, 0.5]] * 5 + [[0.5, 0.5]] * 5)
    >>> values, worst = predicted_worst(low, torch.tensor([[3, 5]] * 5 + [[5, 3]] * 5))
    >>> round(values[0], 3), worst
    (-0.375, 3)
    """
    lead = torch.tensor(predicted_class(agreement), dtype=torch.float64)
    if not len(lead):
        return None
    known = ~lead.isnan()
    lead, predicted = lead[known], targets[known, 0]
    found: dict[int, Tensor] = {}
    for chosen in predicted.unique().tolist():
        own = lead[predicted == chosen]
        if len(own) >= FEWEST:
            found[chosen] = (len(own) * own + PRIOR * lead.mean()) / (len(own) + PRIOR)
    if not found:
        return None
    worst = min(found, key=lambda chosen: float(found[chosen].mean()))
    return found[worst].tolist(), worst


def hidden_place(maps: Maps, witness: Witnesses) -> tuple[list[float], str] | None:
    """Of the place that the maps show least of: how far its share of the maps is below its share of the witness.

    Of each photo's map and witness, positive parts scaled to sum to 1, the shares m and w that lie in the place; per
    place of :data:`PLACES` the means M and W over the photos. Of the place with the least M / W, (w_i - m_i) / W of
    the photos, whose mean is 1 - M / W. [ours] **Range** (-inf, 1], 1: the maps never show it.

    Returns:
        The values and the place; ``None`` where no photo has a map and a witness with positive parts.

    >>> maps, witness = torch.zeros(3, 6, 6), torch.ones(3, 6, 6)
    >>> maps[:, :, :4] = 1
    >>> values, place = hidden_place(maps, witness)
    >>> round(sum(values) / 3, 6), place
    (1.0, 'right third')
    """
    own, theirs = _shares(maps), _shares(witness)
    known = ~(own.isnan().any(1) | theirs.isnan().any(1))
    own, theirs = own[known], theirs[known]
    matters = theirs.mean(0) if len(theirs) else theirs.new_zeros(len(PLACES))
    if not bool((matters > 0).any()):
        return None
    ratio = (own.mean(0) / matters).nan_to_num(nan=torch.inf)
    place = int(ratio.argmin())
    return ((theirs[:, place] - own[:, place]) / matters[place]).tolist(), list(PLACES)[place]


def _shares(maps: Maps) -> Float[Tensor, "photos places"]:
    """Of each map's positive mass, how much lies in each place; NaN for empty maps."""
    found = []
    for part in in_parts(maps):
        positive = part.double().relu()[:, None]
        parts = []
        for rows, cols, cell in PLACES.values():
            mass = F.adaptive_avg_pool2d(positive, (rows, cols)).flatten(1)
            parts.append(mass[:, cell] / mass.sum(1))
        found.append(torch.stack(parts, 1))
    return torch.cat(found)
