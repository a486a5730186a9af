import pytest
import torch

from featlift.features import boxes_to_mask, crop_or_pad, crop_to_match, flatten_tensors, level_stride, tile_spans

GOLDEN = [  # box in px; half-open cells at stride 4 of a 64x64 map, at stride 8 of 32x32 (spec §1.5)
    ((13, 22, 30, 41), (3, 5, 8, 11), (1, 2, 4, 6)),
    ((16, 16, 32, 32), (4, 4, 8, 8), (2, 2, 4, 4)),
    ((5.2, 5.2, 6.1, 6.1), (1, 1, 2, 2), (0, 0, 1, 1)),
    ((-3, 0, 9, 9), (0, 0, 3, 3), (0, 0, 2, 2)),
    ((250, 250, 260, 262), (62, 62, 64, 64), (31, 31, 32, 32)),
]


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("c2", 4), ("c5", 32), ("p3", 8), ("p6", 64), ("p7", 128), ("p2x", 2), ("c3x", 4), ("p10", 1024)],
)
def test_stride(name, pixels):
    assert level_stride(name) == pixels


@pytest.mark.parametrize("name", ["image", "fc7", "p", "3", "p2y", "xp2", "p2xx", "res4", ""])
def test_names_that_are_no_level(name):
    with pytest.raises(ValueError, match=rf"'{name}' is not the name of a level: expected c2"):
        level_stride(name)


def test_crops_at_the_bottom_and_right():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert crop_or_pad(x, (2, 3))[0, 0].tolist() == [[0, 1, 2], [4, 5, 6]]


def test_pads_by_repeating_the_last_row_and_column():
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert crop_or_pad(x, (3, 3))[0, 0].tolist() == [[0, 1, 1], [2, 3, 3], [2, 3, 3]]


def test_crops_one_side_and_pads_the_other():
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert crop_or_pad(x, (1, 3))[0, 0].tolist() == [[0, 1, 1]]


def test_equal_size_is_unchanged():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(crop_or_pad(x, (4, 5)), x)


@pytest.mark.parametrize("size", [(2, 6), (4, 4), (6, 6), (1, 8)])
def test_never_resizes(size):
    with pytest.raises(ValueError, match=rf"4x6 cells cannot be cropped or padded to {size[0]}x{size[1]}.*factor of 2"):
        crop_or_pad(torch.zeros(1, 1, 4, 6), size)


def test_match_crops_both_to_the_smaller_at_the_top_left():
    a = {"p2": torch.arange(12.0).view(1, 1, 3, 4), "p3": torch.zeros(1, 1, 2, 2), "p6": torch.zeros(1, 1, 1, 1)}
    b = {"p3": torch.ones(1, 1, 1, 5), "p2": torch.arange(10.0).view(1, 1, 5, 2)}
    cropped_a, cropped_b = crop_to_match(a, b)
    assert list(cropped_a) == list(cropped_b) == ["p2", "p3"]
    assert cropped_a["p2"][0, 0].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert cropped_b["p2"][0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert cropped_a["p3"].shape == cropped_b["p3"].shape == (1, 1, 1, 2)
    assert a["p2"].shape == (1, 1, 3, 4)


def test_match_needs_a_shared_level():
    with pytest.raises(ValueError, match=r"\['p2'\], the second \['c2', 'c3'\]"):
        crop_to_match({"p2": torch.zeros(1)}, {"c3": torch.zeros(1), "c2": torch.zeros(1)})


@pytest.mark.parametrize(("length", "tile_size", "margin"), [(10, 3, 2), (12, 4, 0), (5, 8, 3), (9, 4, 20), (1, 1, 1)])
def test_tiles_partition_an_axis_and_have_equal_windows_with_the_margin(length, tile_size, margin):
    spans, cells = tile_spans(length, tile_size, margin), torch.arange(length)
    assert torch.equal(torch.cat([cells[span.tile] for span in spans]), cells)
    for span in spans:
        assert span.window.stop - span.window.start == min(length, tile_size + 2 * margin)
        assert span.window.start <= max(0, span.tile.start - margin)
        assert span.window.stop >= min(length, span.tile.stop + margin)


@pytest.mark.parametrize("scale", [1, 4])
def test_the_tile_is_found_in_the_output_of_its_window(scale):
    large = torch.arange(10 * scale)
    for span in tile_spans(10, 3, 2):
        output = large[span.scaled_window(scale)]
        assert torch.equal(output[span.tile_in_window(scale)], large[span.scaled_tile(scale)])


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize(("box", "fine", "coarse"), GOLDEN)
def test_boxes_to_mask(box, fine, coarse, stride):
    left, top, right, bottom = fine if stride == 4 else coarse
    expected = torch.zeros(1, 1, 256 // stride, 256 // stride)
    expected[..., top:bottom, left:right] = 1
    assert torch.equal(boxes_to_mask([torch.tensor([box])], stride, (256 // stride, 256 // stride)), expected)


def test_overlapping_boxes_and_images_are_independent():
    boxes = [torch.tensor([[0.0, 0, 8, 8], [4, 4, 12, 12]]), torch.zeros(0, 4)]
    mask = boxes_to_mask(boxes, 4, (8, 8))
    assert mask[0].sum() == 7
    assert not mask[1].any()


def test_a_box_outside_the_map_has_no_cells():
    assert not boxes_to_mask([torch.tensor([[-20.0, -20, -5, -5], [70, 0, 90, 9]])], 4, (16, 16)).any()


def test_tensors_in_nested_outputs():
    a, b, c = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    nested = (a, {"x": [b, None, "text"], "y": 3}, [(c,)])
    assert [x.item() for x in flatten_tensors(nested)] == [0, 1, 2]
    assert flatten_tensors(None) == []
