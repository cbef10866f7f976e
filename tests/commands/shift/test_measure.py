"""What a shift says of two sets of maps, against numbers worked out by hand."""

import pytest
import torch

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import Shift, attacked, compare, measure
from heatproof.data.batches import Batch
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from networks import small

CLEAN = torch.tensor([[[4.0, 3.0], [2.0, 0.5]]])
MOVED = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])
LEVELS = (("clean", 0.0), ("FGSM()", 0.0), ("FGSM()", 0.5))


def model() -> Classifier:
    return Classifier(torch.nn.Flatten(), input_size=16)


def test_every_metric_by_hand() -> None:
    found = compare(Shift(fraction=0.5), model(), CLEAN, MOVED)
    # ranks 3 2 1 0 and 0 2 1 3: 1 - 6 (9 + 9) / (4 * 15)
    assert found["spearman"].tolist() == pytest.approx([-0.8])
    # of the two highest, the first cell and the second, the second is still among them
    assert found["topk_intersection"].tolist() == [0.5]
    # centres (2.5, 3.5) / 9.5 and (6, 7) / 10, over the diagonal of 2 x 2 cells
    distance = ((0.6 - 2.5 / 9.5) ** 2 + (0.7 - 3.5 / 9.5) ** 2) ** 0.5 / 8**0.5
    assert found["center_distance"].tolist() == pytest.approx([distance])
    # 0.5 of 4 is less than 15%: the last cell, with 4 of the mass of 10, is off the object
    assert found["on_object"].tolist() == pytest.approx([0.6])
    # NISSIM has its own tests; here it is that of maps as large as the network's images, and of no other size
    assert torch.equal(found["nissim"], nissim(CLEAN, MOVED, size=16))
    assert abs(found["nissim"] - nissim(CLEAN, MOVED, size=32)) > 0.01


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0.5, 0.0, 1.0, 0.5), 0.3),  # the upper right cell
        ((0.0, 0.5, 0.5, 1.0), 0.2),  # the lower left
        ((0.25, 0.0, 1.0, 0.5), 0.35),  # and half of the upper left
        ((0.0, 0.0, 0.5, 1.0), 0.3),  # the left column
    ],
)
def test_a_box_is_left_top_right_bottom(box: tuple[float, float, float, float], share: float) -> None:
    found = compare(Shift(), model(), CLEAN, MOVED, [box])
    assert found["on_object"].tolist() == pytest.approx([share])


def test_an_empty_map_is_nowhere() -> None:
    found = compare(Shift(), model(), CLEAN, -MOVED)
    assert found["on_object"].isnan().tolist() == [True]
    assert (found["empty"].tolist(), found["empty_clean"].tolist()) == ([True], [False])


def test_of_two_empty_maps_no_likeness_is_known() -> None:
    """Equal they are, and NISSIM would be 0: as if a network whose maps show nothing were perfectly stable."""
    nothing = torch.zeros(1, 2, 2)
    for before, after in ((nothing, nothing), (nothing, nothing.clone())):
        found = compare(Shift(), model(), before, after)
        for name in ("nissim", "spearman", "topk_intersection", "center_distance", "on_object"):
            assert found[name].isnan().tolist() == [True], name
    # negative cells have an order, and no mass
    found = compare(Shift(), model(), -CLEAN, -MOVED)
    assert found["nissim"].isnan().tolist() == found["center_distance"].isnan().tolist() == [True]
    assert not found["topk_intersection"].isnan().any()
    assert not compare(Shift(normalisation="minmax"), model(), -CLEAN, -MOVED)["nissim"].isnan().any()
    # one that became empty did move
    assert compare(Shift(), model(), CLEAN, nothing)["nissim"].item() > 0


def test_success_is_of_photos_that_were_not_there_before() -> None:
    """Wrong from the start is no attack's success, and the clean images were not attacked."""
    network = small(dtype=torch.float32)
    images = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    right = network(images).argmax(1)
    labels = torch.where(torch.tensor([True, True, False, False]), right, (right + 1) % 3)
    batch = Batch(["a", "b", "c", "d"], images, labels)
    rows = list(measure(Shift(epsilons=(0.0, 0.5)), "net", network, batch, Hardware()))
    told = {level: [row["success"] for row in rows if (row["attack"], row["epsilon"]) == level] for level in LEVELS}
    assert told["clean", 0.0] == [None] * 4
    assert told["FGSM()", 0.0] == [False, False, None, None]
    attacked_rows = [row for row in rows if (row["attack"], row["epsilon"]) == ("FGSM()", 0.5)]
    assert told["FGSM()", 0.5] == [not attacked_rows[0]["kept"], not attacked_rows[1]["kept"], None, None]


def test_a_photo_without_a_label_is_explained_by_its_prediction() -> None:
    network = small(dtype=torch.float32)
    images = torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    asked = Shift((FGSM(),), (0.1,), (GradCAM(),), explain="label")
    with torch.no_grad():
        predicted = network(images).argmax(1)
    labels = torch.tensor([(int(predicted[0]) + 1) % 4, -1, -1])
    clean = next(attacked(asked, network, images, labels, Hardware("cpu")))
    wanted = torch.cat([labels[:1], predicted[1:]])
    expected = GradCAM()(network, images, wanted).heatmaps
    torch.testing.assert_close(clean.grid.heatmaps[0].reshape(expected.shape), expected)
