import math

import pytest
import torch
from tests.shapes import unchecked

from heatproof.errors import InputError
from heatproof.metrics.localisation import box_iou, pointing_game, segment_boxes

NOWHERE = [math.nan] * 4


@pytest.fixture
def heatmap():
    """4x4: a large segment of six faint cells on the left, one bright cell apart on the right."""
    return torch.tensor([[[2.0, 2, 0, 0], [2, 2, 0, 9], [2, 2, 0, 0], [0, 0, 0, 1]]])


def test_pointing_game_by_hand(heatmap):
    # the centre of the bright cell: x = 3.5 / 4, y = 1.5 / 4
    for box, hit in (([0.75, 0.25, 1, 0.5], 1.0), ([0, 0, 0.5, 0.75], 0.0), ([0.88, 0, 1, 1], 0.0)):
        assert pointing_game(heatmap, torch.tensor([box])).tolist() == [hit]
    assert pointing_game(heatmap, torch.tensor([[0.88, 0, 1, 1]]), tolerance=0.01).tolist() == [1.0]


def test_any_object_counts_and_missing_ones_do_not(heatmap):
    boxes = torch.tensor([[[0.0, 0, 0.5, 0.75], [0.75, 0.25, 1, 0.5]], [[0, 0, 0.5, 0.75], NOWHERE], [NOWHERE] * 2])
    maps = heatmap.expand(3, -1, -1)
    assert pointing_game(maps, boxes)[:2].tolist() == [1.0, 0.0]
    assert pointing_game(maps, boxes)[2].isnan()


def test_the_largest_segment_makes_the_box(heatmap):
    # 15 % of 9 is 1.35: the lone 1 is below, the 9 is a segment of one cell
    assert segment_boxes(heatmap).tolist() == [[0, 0, 0.5, 0.75]]
    assert segment_boxes(heatmap, 0.5).tolist() == [[0.75, 0.25, 1, 0.5]]


def test_box_iou_by_hand(heatmap):
    # own box 0.5 x 0.75 = 0.375, half of which lies in a box of area 0.25
    found = box_iou(heatmap, torch.tensor([[0.25, 0.0, 0.5, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([0.1875 / (0.375 + 0.25 - 0.1875)]))
    assert box_iou(heatmap, torch.tensor([[0.0, 0, 0.5, 0.75]])).tolist() == [1.0]
    assert box_iou(heatmap, torch.tensor([[0.6, 0, 1, 1]])).tolist() == [0.0]


def test_empty_maps_have_no_value(heatmap):
    maps = torch.cat([torch.zeros(1, 4, 4), heatmap])
    boxes = torch.tensor([[0.0, 0, 1, 1]]).expand(2, -1)
    for found in (pointing_game(maps, boxes), box_iou(maps, boxes)):
        assert found.isnan().tolist() == [True, False]
    assert segment_boxes(maps)[0].tolist() == [0, 0, 0, 0]


@unchecked()
def test_no_annotation_is_said(heatmap):
    with pytest.raises(InputError, match="need annotations, and no image has a box"):
        pointing_game(heatmap, torch.tensor([NOWHERE]))
    with pytest.raises(InputError, match=r"boxes \[batch, 4\]"):
        box_iou(heatmap, torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"in \[0, 1\), got 1"):
        box_iou(heatmap, torch.zeros(1, 4), threshold=1)
