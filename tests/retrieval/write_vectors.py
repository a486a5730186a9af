"""A process of the tests: ``python write_vectors.py FOLDER FIRST END`` adds the vectors of each number, three at a time."""

import sys
from pathlib import Path

from test_vector_store import unit_vectors

from featlift.retrieval.vector_store import VectorStore

folder, first, end = sys.argv[1:]
store = VectorStore(Path(folder), 4)
for number in range(int(first), int(end)):
    store.add([f"{number}-{i}" for i in range(3)], unit_vectors(3, seed=number))
    print("added", number, flush=True)
