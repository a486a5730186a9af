"""Draw the packages of featlift and their imports as ``docs/images/architecture.svg``: ``python docs/draw_architecture.py``.

Boxes stand on the floors of ``tests/test_architecture.py``; a package imports only packages of its own floor and below. Of the
imports, lazy ones included, an arrow is drawn only if no path of other arrows implies it.
"""

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "featlift"
FIGURE = ROOT / "docs" / "images" / "architecture.svg"

PURPOSES: dict[str, str] = {
    "cli": "options, help, suggestions",
    "commands": "one function per command",
    "app": "comparison in the browser",
    "experiments": "comparisons of trainings",
    "papers": "settings, training, evaluation",
    "runs": "open, evaluate, compare",
    "baseline": "detection losses alone",
    "report": "HTML page, figures",
    "deployment": "optimize, export, upscale",
    "integrations": "other libraries",
    "conversion": "published weights",
    "upgrading": "existing detectors",
    "distillation": "teacher, student, discriminator",
    "detectors": "R-CNNs, dense, extractor",
    "retrieval": "descriptors, index, generator",
    "pyramids": "FPN, PAFPN, BiFPN, EFPN",
    "interpolators": "upsample maps by 2",
    "losses": "losses of the papers",
    "backbones": "timm networks",
    "image_sr": "upscale images",
    "data": "datasets, loaders, scenes",
    "evaluation": "AP, mAP, PSNR, bootstrap",
    "training": "loop, optimizer, run folder",
    "profiling": "latency, memory, MACs",
    "checkpoints": "files, atomic writes",
}
"""Package → what it holds."""
FOUNDATION = ("features", "resolution", "registry", "device")
"""Modules of the lowest floor, imported from everywhere; drawn as one bar without arrows."""
FRONT = ("__init__", "__main__")
"""Files that only import the public names and the command line; not drawn."""
COLORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "command line": ("#e8e3f5", ("cli", "commands")),
    "methods and comparisons": ("#fde8d0", ("papers", "baseline", "experiments", "distillation")),
    "use of trained networks": ("#f9dfe3", ("runs", "report", "deployment", "upgrading", "conversion")),
    "networks": (
        "#dbe9f8",
        ("detectors", "retrieval", "pyramids", "interpolators", "discriminators", "losses", "backbones", "image_sr"),
    ),
    "data, training, evaluation": ("#dff1df", ("data", "evaluation", "training", "profiling", "checkpoints")),
}
"""Legend entry → color and packages."""

BOX_WIDTH, BOX_HEIGHT, FLOOR_HEIGHT, GAP, MARGIN = 186, 46, 88, 22, 24
LANE = 14
"""Width that an arrow needs where it passes a floor, in pixels."""

FOUNDATION_HEIGHT = 40
STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;text-anchor:middle;fill:#222} "
    ".name{font-size:15px;font-weight:bold} .purpose{font-size:11px} .arrow{fill:none;stroke:#777;stroke-width:1.4}"
)
ARROW_HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker>'
)

Edge = tuple[str, str]
Node = tuple[str, str, int] | str
"""A package, or the place where the arrow from one package to another passes a floor."""


def read_floors() -> list[set[str]]:
    """Return the floors of the architecture test from the top down, without the foundation and the public names."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text())
    value = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "FLOORS")
    present = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    floors = [(floor & present) - {*FOUNDATION, *FRONT} for floor in ast.literal_eval(ast.unparse(value))]
    return [floor for floor in reversed(floors) if floor]


def read_imports() -> set[Edge]:
    """Return the pairs of packages (importing, imported), without the foundation and the public names.

    The command line imports the module of a command by its name, which no statement shows.
    """
    edges = {("cli", "commands")}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        edges |= {(own, name.split(".")[1]) for name in _imported_names(path) if name.startswith("featlift.")}
    hidden = {*FOUNDATION, *FRONT, "__version__"}
    return {(a, b) for a, b in edges if a != b and not {a, b} & hidden}


def _imported_names(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reduce_edges(edges: set[Edge]) -> set[Edge]:
    """Remove every edge that a longer path implies."""
    below = defaultdict(set)
    for a, b in edges:
        below[a].add(b)

    def reach(start: str) -> set[str]:
        found, waiting = set(), list(below[start])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += below[name]
        return found

    return {(a, b) for a, b in edges if not any(b in reach(other) for other in below[a] - {b})}


def build_columns(floors: list[set[str]], edges: set[Edge]) -> tuple[list[list[Node]], list[list[Node]]]:
    """Return the nodes of every floor in their order from left to right, and the path of nodes of every arrow between floors.

    An arrow has a node on every floor that it passes.
    """
    floor_of = {name: i for i, floor in enumerate(floors) for name in floor}
    columns: list[list[Node]] = [sorted(floor) for floor in floors]
    paths: list[list[Node]] = []
    for a, b in sorted(edges):
        passed: list[Node] = [(a, b, floor) for floor in range(floor_of[a] + 1, floor_of[b])]
        if floor_of[a] != floor_of[b]:
            paths.append([a, *passed, b])
        for node in passed:
            columns[node[2]].append(node)
    level_pairs = [{*edge} for edge in edges if floor_of[edge[0]] == floor_of[edge[1]]]
    orders = [_order_columns([list(c) for c in columns], paths, level_pairs, edges, down) for down in (True, False)]
    return min(orders, key=lambda order: _count_crossings(order, paths)), paths


def _order_columns(
    columns: list[list[Node]], paths: list[list[Node]], pairs: list[set[str]], edges: set[Edge], down: bool
) -> list[list[Node]]:
    """Order each floor by the mean place of the neighbors above and below, in sweeps; packages joined by an arrow stay together."""
    neighbors = _find_neighbors(paths)
    best = columns
    for sweep in range(24):
        order = range(len(columns)) if down == (sweep % 2 == 0) else range(len(columns) - 1, -1, -1)
        for floor in order:
            place = {node: i / max(1, len(c) - 1) for c in columns for i, node in enumerate(c)}
            means = {n: statistics.mean([place[m] for m in neighbors[n]] or [place[n]]) for n in columns[floor]}
            columns[floor] = _keep_together(sorted(columns[floor], key=lambda n: (means[n], str(n))), pairs, edges)
        if _count_crossings(columns, paths) < _count_crossings(best, paths) or sweep == 0:
            best = [list(c) for c in columns]
    return best


def _keep_together(nodes: list[Node], pairs: list[set[str]], edges: set[Edge]) -> list[Node]:
    """Place packages of one floor that import each other next to each other, the importing one at the left."""
    for pair in pairs:
        if pair <= {*nodes}:
            a, b = sorted(pair, key=lambda name: (name, *(pair - {name})) not in edges)
            nodes.remove(b)
            nodes.insert(nodes.index(a) + 1, b)
    return nodes


def _find_neighbors(paths: list[list[Node]]) -> dict[Node, list[Node]]:
    neighbors = defaultdict(list)
    for path in paths:
        for a, b in pairwise(path):
            neighbors[a].append(b)
            neighbors[b].append(a)
    return neighbors


def _count_crossings(columns: list[list[Node]], paths: list[list[Node]]) -> int:
    place = {node: (floor, i) for floor, column in enumerate(columns) for i, node in enumerate(column)}
    segments = [(place[a], place[b]) for path in paths for a, b in pairwise(path)]
    return sum(
        a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0
        for i, (a, b) in enumerate(segments)
        for c, d in segments[i + 1 :]
    )


def place_nodes(columns: list[list[Node]], paths: list[list[Node]]) -> dict[Node, float]:
    """Return the horizontal center of every node in pixels: near its neighbors, in the given order, without overlap."""
    neighbors = _find_neighbors(paths)
    x = {node: 0.0 for column in columns for node in column}
    for column in columns:
        x |= _spread(column, dict.fromkeys(column, 0.0))
    for sweep in range(60):
        for column in columns if sweep % 2 else reversed(columns):
            x |= _spread(column, {n: statistics.mean([x[m] for m in neighbors[n]] or [x[n]]) for n in column})
    left = min(value - _width(node) / 2 for node, value in x.items())
    return {node: value - left + MARGIN for node, value in x.items()}


def _spread(column: list[Node], wanted: dict[Node, float]) -> dict[Node, float]:
    """Return the places closest to ``wanted`` (least squares) at which nodes do not overlap (isotonic regression)."""
    offsets = [0.0]
    for a, b in pairwise(column):
        offsets.append(offsets[-1] + (_width(a) + _width(b)) / 2 + GAP)
    blocks: list[list[float]] = []
    for node, offset in zip(column, offsets, strict=True):
        blocks.append([wanted[node] - offset])
        while len(blocks) > 1 and statistics.mean(blocks[-2]) > statistics.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    places = [statistics.mean(block) for block in blocks for _ in block]
    return {node: place + offset for node, place, offset in zip(column, places, offsets, strict=True)}


def _width(node: Node) -> int:
    return BOX_WIDTH if isinstance(node, str) else LANE


def draw(floors: list[set[str]], edges: set[Edge]) -> str:
    """Return the figure as SVG."""
    columns, paths = build_columns(floors, edges)
    x = place_nodes(columns, paths)
    y = {node: MARGIN + 34 + FLOOR_HEIGHT * floor + BOX_HEIGHT / 2 for floor, c in enumerate(columns) for node in c}
    width = max(value + _width(node) / 2 for node, value in x.items()) + MARGIN
    bottom = max(y.values()) + FLOOR_HEIGHT - BOX_HEIGHT / 2
    parts = [*_draw_legend(), *_draw_arrows(paths, x, y), *_draw_level_arrows(edges, x, y)]
    parts += [_draw_box(node, x[node], y[node]) for column in columns for node in column if isinstance(node, str)]
    parts += _draw_foundation(width, bottom)
    height = bottom + FOUNDATION_HEIGHT + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<defs><style>{STYLE}</style>{ARROW_HEAD}</defs>"]
    return "\n".join([*head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _draw_legend() -> Iterable[str]:
    left = MARGIN
    for entry, (color, _) in COLORS.items():
        yield f'<rect x="{left:.0f}" y="14" width="14" height="14" rx="3" fill="{color}" stroke="#999"/>'
        yield f'<text x="{left + 20:.0f}" y="26" style="text-anchor:start" class="purpose">{entry}</text>'
        left += 46 + 5.4 * len(entry)


def _draw_box(name: str, x: float, y: float) -> str:
    color = next((color for color, names in COLORS.values() if name in names), "#eeeeee")
    corner = f'x="{x - BOX_WIDTH / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}"'
    rect = f'<rect {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7" fill="{color}" stroke="#888"/>'
    title = f'<text x="{x:.1f}" y="{y - 3:.1f}" class="name">{name}</text>'
    return f'{rect}{title}<text x="{x:.1f}" y="{y + 14:.1f}" class="purpose">{escape(PURPOSES.get(name, ""))}</text>'


def _draw_foundation(width: float, top: float) -> Iterable[str]:
    size = f'x="{MARGIN}" y="{top:.1f}" width="{width - 2 * MARGIN:.1f}" height="{FOUNDATION_HEIGHT}"'
    yield f'<rect {size} rx="7" fill="#eeeeee" stroke="#888"/>'
    text = f"{', '.join(FOUNDATION)}: imported from everywhere"
    yield f'<text x="{width / 2:.1f}" y="{top + 25:.1f}" class="purpose">{text}</text>'


def _draw_arrows(paths: list[list[Node]], x: dict[Node, float], y: dict[Node, float]) -> Iterable[str]:
    """Yield the arrows between floors; those that leave or reach one box are spread along its side."""
    for path in paths:
        start = x[path[0]] + _port(path, 0, paths, x)
        points = [(start, y[path[0]] + BOX_HEIGHT / 2)]
        for node in path[1:-1]:
            points += [(x[node], y[node] - BOX_HEIGHT / 2), (x[node], y[node] + BOX_HEIGHT / 2)]
        points.append((x[path[-1]] + _port(path, -1, paths, x), y[path[-1]] - BOX_HEIGHT / 2 - 1))
        line = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
        for (x0, y0), (x1, y1) in pairwise(points):
            bend = (y1 - y0) / 2
            line += f" C{x0:.1f},{y0 + bend:.1f} {x1:.1f},{y1 - bend:.1f} {x1:.1f},{y1:.1f}"
        yield f'<path data-edge="{path[0]} {path[-1]}" d="{line}" class="arrow" marker-end="url(#head)"/>'


def _port(path: list[Node], end: int, paths: list[list[Node]], x: dict[Node, float]) -> float:
    """Return the place of an arrow on the side of its first (0) or last (-1) box, relative to the center."""
    next_to = 1 if end == 0 else -2
    same = sorted((p for p in paths if p[end] == path[end]), key=lambda p: x[p[next_to]])
    return (same.index(path) - (len(same) - 1) / 2) * min(26, (BOX_WIDTH - 30) / len(same))


def _draw_level_arrows(edges: set[Edge], x: dict[Node, float], y: dict[Node, float]) -> Iterable[str]:
    for a, b in sorted(edges):
        if y[a] == y[b]:
            side = BOX_WIDTH / 2 if x[a] < x[b] else -BOX_WIDTH / 2
            ends = f'x1="{x[a] + side:.1f}" y1="{y[a]:.1f}" x2="{x[b] - side:.1f}" y2="{y[b]:.1f}"'
            yield f'<line data-edge="{a} {b}" {ends} class="arrow" marker-end="url(#head)"/>'


if __name__ == "__main__":
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text(draw(read_floors(), reduce_edges(read_imports())), encoding="utf-8")
    print(FIGURE.relative_to(ROOT))
