"""A mask as one polygon along the edges of its pixels: parts and holes are joined by lines without width."""

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.int64]
"""Corners ``[N, 2]`` (x, y) of a closed line, in pixels."""
_DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


def mask_to_polygon(mask: NDArray) -> list[float]:
    """Polygon ``[x1, y1, x2, y2, …]`` of ``mask`` ``[H, W]``, in pixels; rasterized as COCO does, it is the mask again.

    The boundaries are followed between pixels, with the mask on the right. Formats with one polygon per object, such as YOLO, need the
    parts and holes in one line: each is reached from the nearest corner and left the same way.

    Raises:
        ValueError: If the mask is empty.
    """
    loops = _trace_boundaries(np.asarray(mask) > 0)
    if not loops:
        raise ValueError("an empty mask has no polygon")
    polygon, *others = sorted(loops, key=len, reverse=True)
    for loop in others:
        polygon = _join(polygon, loop)
    return [float(value) for value in polygon.ravel()]


def _trace_boundaries(mask: NDArray[np.bool_]) -> list[Loop]:
    """Closed lines around the parts and holes of ``mask``."""
    edges = _list_edges(mask)
    loops = []
    while edges:
        corner, first_direction = next(iter(edges))
        direction, corners = first_direction, []
        while (corner, direction) in edges:
            edges.discard((corner, direction))
            corner = (corner[0] + int(_DIRECTIONS[direction][0]), corner[1] + int(_DIRECTIONS[direction][1]))
            # right, straight on, left: where two pixels meet at a corner only, they stay apart
            ways = (d % 4 for d in (direction + 1, direction, direction + 3) if (corner, d % 4) in edges)
            turned = next(ways, first_direction)  # no edge is left where the line began
            if turned != direction:
                corners.append(corner)
            direction = turned
        loops.append(np.array(corners, dtype=np.int64))
    return loops


def _list_edges(mask: NDArray[np.bool_]) -> set[tuple[tuple[int, int], int]]:
    """Edges between pixels inside and outside: the corner where each begins and its direction, with the mask on the right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    starts = {
        0: (inside & ~padded[:-2, 1:-1], (0, 0)),  # top edges go right
        1: (inside & ~padded[1:-1, 2:], (1, 0)),  # right edges go down
        2: (inside & ~padded[2:, 1:-1], (1, 1)),  # bottom edges go left
        3: (inside & ~padded[1:-1, :-2], (0, 1)),  # left edges go up
    }
    edges = set()
    for direction, (pixels, (dx, dy)) in starts.items():
        ys, xs = np.nonzero(pixels)
        edges |= {((int(x) + dx, int(y) + dy), direction) for x, y in zip(xs, ys, strict=True)}
    return edges


def _join(polygon: Loop, loop: Loop) -> Loop:
    """``polygon`` with a detour around ``loop`` between their nearest corners."""
    distances = ((polygon[:, None] - loop[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    detour = np.concatenate([np.roll(loop, -int(j), axis=0), loop[j : j + 1]])
    return np.concatenate([polygon[: i + 1], detour, polygon[i:]])
