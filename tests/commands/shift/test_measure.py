"""What a shift says of two sets of maps, against numbers worked out by hand."""

import pytest
import torch

from heatproof.attacks.gradient import FGSM
from heatproof.commands.shift.measure import Shift, attacked, compare
from heatproof.explainers.cam import GradCAM
from heatproof.metrics.similarity import nissim
from heatproof.models.classifier import Classifier
from heatproof.models.hardware import Hardware
from networks import small

CLEAN = torch.tensor([[[4.0, 3.0], [2.0, 0.5]]])
MOVED = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])


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
