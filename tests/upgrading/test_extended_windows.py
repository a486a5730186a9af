"""The level in windows around the detector's own small boxes: which windows, what counts, and equality with the whole image."""

import numpy as np
import pytest
import torch
from torchvision.models import detection

from featlift.deployment.export_network import export_network
from featlift.upgrading import downgrade, enable_level, load_delta, save_delta, upgrade
from featlift.upgrading.extended_family import PlainMaps
from featlift.upgrading.extended_windows import (
    NEVER,
    WindowGroup,
    cover_cells,
    mark_cells,
    select_windows,
    whole_images,
)


def maps_of(height, width, images=1):
    """Maps whose values are their own positions: image, coarse map of stride 32, one guide."""
    image, coarse, guide = (
        torch.arange(images * side[0] * side[1], dtype=torch.float32).view(images, 1, *side)
        for side in ((height, width), (height // 32, width // 32), (height // 16, width // 16))
    )
    return PlainMaps(image, coarse, (guide,))


def box(x, y, side=10.0):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def test_a_cell_and_its_neighbors_are_marked():
    boxes = torch.tensor([[box(40, 100), box(250, 10)], [box(500, -20), box(0, 0)]])
    marked = mark_cells(boxes, torch.tensor([[True, False], [True, False]]), (4, 8), 32)
    expected = torch.zeros(2, 4, 8, dtype=torch.bool)
    expected[0, 2:4, 0:3] = True  # the cell (3, 1); row 4 does not exist
    expected[1, 0:2, 6:8] = True  # outside the image: its nearest cell (0, 7)
    assert torch.equal(marked, expected)


@pytest.mark.parametrize("seed", range(20))
def test_every_marked_cell_is_owned_once_and_only_within_the_ring(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 16, 2))
    cells = rng.random(shape) < rng.choice([0.02, 0.2, 0.9])
    owners = np.zeros(shape, int)
    for (row, column), owned in cover_cells(cells, (5, 5)):
        assert owned.shape == (5, 5)
        assert owned.any()
        inner = np.zeros((5, 5), bool)
        inner[row > 0 : 5 - (row + 5 < shape[0]), column > 0 : 5 - (column + 5 < shape[1])] = True
        assert not (owned & ~inner).any()
        owners[row : row + 5, column : column + 5] += owned
    assert np.array_equal(owners, cells)


def test_one_object_takes_one_window_and_an_image_full_of_objects_is_taken_whole():
    maps = maps_of(416, 416, images=3)
    everywhere = [box(16 + 32 * i, 16 + 32 * j) for i in range(13) for j in range(13)]
    boxes = torch.tensor([everywhere, [box(208, 208)] * 169, everywhere])
    scores = torch.stack([torch.full((169,), 0.5), torch.full((169,), 0.5), torch.full((169,), 0.1)])
    small, whole = select_windows(maps, boxes, scores, 32.0, 0.2)
    assert (small.shape, small.images, small.corners) == ((5, 5), (1,), ((4, 4),))
    assert small.owned.sum() == 9
    assert (whole.shape, whole.images, whole.corners) == ((13, 13), (0,), ((0, 0),))
    large = torch.tensor([[box(208, 208, 47.0)], [box(208, 208, 49.0)], [box(208, 208, 49.0)]])
    (only,) = select_windows(maps, large, torch.ones(3, 1), 32.0, 0.2)
    assert only.images == (0,)
    assert select_windows(maps, large, torch.zeros(3, 1), 32.0, 0.2) == []


def test_crops_of_all_maps_show_the_same_part():
    maps = maps_of(192, 256, images=2)
    owned = torch.ones(2, 2, 3, dtype=torch.bool)
    crops = WindowGroup((2, 3), (1, 0), ((1, 4), (3, 0)), owned).crop(maps)
    assert torch.equal(crops.image[0], maps.image[1, :, 32:96, 128:224])
    assert torch.equal(crops.coarse[1], maps.coarse[0, :, 3:5, 0:3])
    assert torch.equal(crops.guides[0][0], maps.guides[0][1, :, 2:6, 8:14])


def test_an_image_whose_sides_are_no_multiples_of_the_cells_is_taken_whole():
    maps = PlainMaps(torch.zeros(1, 3, 200, 256), torch.zeros(1, 4, 7, 8), ())
    (group,) = select_windows(maps, torch.tensor([[box(16, 16)]]), torch.ones(1, 1), 32.0, 0.2)
    assert group.shape == (7, 8)
    assert torch.equal(group.owned, whole_images(maps).owned)


def test_boxes_move_with_their_window_and_count_only_where_it_owns_the_cell():
    owned = torch.zeros(3, 1, 2, dtype=torch.bool)
    owned[0, 0, 1] = owned[1] = owned[2, 0, 0] = True
    group = WindowGroup((1, 2), (1, 0, 1), ((2, 3), (0, 0), (1, 1)), owned)
    number = 8 * 16
    values = {"boxes": torch.arange(3.0)[:, None, None].expand(3, number, 4), "class_logits": torch.ones(3, number, 2)}
    placed = group.place(values, 32, 2)
    assert placed["boxes"].shape == (2, 2 * number, 4)
    assert placed["boxes"][1, 0].tolist() == [96, 64, 96, 64]
    assert placed["boxes"][1, number].tolist() == [34, 34, 34, 34]
    counts = (placed["class_logits"] > NEVER).all(-1)
    assert counts[0].tolist() == [True] * number + [False] * number
    position_in_row = torch.arange(number) % 16
    assert torch.equal(counts[1, :number], position_in_row >= 8)
    assert torch.equal(counts[1, number:], position_in_row < 8)


@torch.no_grad()
def test_an_image_taken_whole_gives_the_rows_of_the_level_everywhere(yolox):
    image = torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox, 1000)
    expected = yolox(image)
    enable_level(yolox, 1000, min_score=1e-12)
    torch.testing.assert_close(yolox(image), expected)


@torch.no_grad()
def test_rows_of_a_window_are_those_of_the_level_everywhere_next_to_the_object(yolox):
    """With 5x5 cells of context around one candidate, the positions far from the window's border see the same pixels."""
    image = torch.rand(1, 3, 416, 416, generator=torch.Generator().manual_seed(1))
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox, 1000)
    plain_number = yolox.train()(image).shape[1]
    everywhere = yolox.eval()(image)[:, plain_number:]
    candidates = torch.tensor([[box(208, 208)]]), torch.ones(1, 1)
    yolox.plain_candidates = lambda outputs: candidates
    enable_level(yolox, 1000, min_score=0.5)
    rows = yolox(image)[:, plain_number:]
    assert rows.shape[1] == 40 * 40
    counts = rows[0, :, 4] > 0
    assert counts.sum() == 24 * 24
    centers = 4 * (torch.arange(104) + 0.5)
    inside = ((centers > 160) & (centers < 256))[:, None] & ((centers > 160) & (centers < 256))
    same = everywhere[0].view(104, 104, -1)[inside]
    error = (rows[0, counts, 4] - same[:, 4]).abs().mean()
    spread = (same[:, 4] - same[:, 4].mean()).abs().mean()
    assert error < 0.2 * spread


def test_windows_are_saved_with_the_level_and_removed_with_it(yolox, tmp_path):
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox, 24, min_score=0.25)
    save_delta(yolox, tmp_path / "level.safetensors")
    downgrade(yolox)
    assert not hasattr(yolox, "level_min_score")
    load_delta(yolox, tmp_path / "level.safetensors")
    assert (yolox.level_max_size, yolox.level_min_score) == (24, 0.25)


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
@torch.no_grad()
def test_torchvisions_detectors_in_windows(name, shallow_torchvision):
    torch.manual_seed(0)
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=3, min_size=128, max_size=128, score_thresh=0.0
    ).eval()
    images = list(torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)))
    upgrade(model, level="p3x", width=8)
    enable_level(model, 64)
    expected = model(images)
    enable_level(model, 64, min_score=1e-12)
    for found, wanted in zip(model(images), expected, strict=True):
        torch.testing.assert_close(found["scores"], wanted["scores"])
    enable_level(model, 64, min_score=0.999)
    whole = model(images)
    enable_level(model, 0)
    for found, wanted in zip(whole, model(images), strict=True):
        assert torch.equal(found["boxes"], wanted["boxes"])


@torch.no_grad()
def test_an_export_has_the_level_everywhere(yolox, tmp_path):
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox, 1000)
    expected = yolox(image)
    enable_level(yolox, 1000, min_score=0.999)
    export_network(yolox, (64, 96), tmp_path / "level.pt2", "torch-export")
    program = torch.export.load(tmp_path / "level.pt2").module()
    torch.testing.assert_close(program(image)["y0"], expected)
    assert yolox.level_min_score == 0.999


def test_windows_that_are_not_possible_are_refused(yolox):
    with pytest.raises(ValueError, match="no extended level"):
        enable_level(yolox, 32, min_score=0.1)
    upgrade(yolox, level="p3x", width=8)
    with pytest.raises(ValueError, match=r"min_score is 1\.5"):
        enable_level(yolox, 32, min_score=1.5)
    yolox.has_windows = False
    with pytest.raises(ValueError, match="cannot be computed in windows"):
        enable_level(yolox, 32, min_score=0.1)
    del yolox.has_windows
    enable_level(yolox, 32, min_score=1e-9)
    with pytest.raises(RuntimeError, match="without min_score"):
        torch.jit.trace(yolox, torch.rand(1, 3, 64, 64))
