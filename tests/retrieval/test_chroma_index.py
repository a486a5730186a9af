"""A gallery on servers. The requests are checked against a small server that keeps what it is told; the real one is asked where it is
installed: ``FEATLIFT_CHROMA`` names its program, or ``chroma`` is on the path.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from urllib.request import urlopen

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval.chroma_index import ChromaIndex
from featlift.retrieval.exact_search import exact_search
from featlift.retrieval.vector_store import VectorStore

CHROMA = os.environ.get("FEATLIFT_CHROMA") or shutil.which("chroma")


def unit(rows, dimension=16, seed=0):
    return nnf.normalize(torch.randn(rows, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


class Kept(ThreadingTCPServer):
    """Vectors by name, and what they are said to be."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Pretended)
        self.vectors, self.facts = {}, None
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Pretended(BaseHTTPRequestHandler):
    """Exact search in a dictionary, in the words of Chroma's interface."""

    disable_nagle_algorithm = True

    @property
    def kept(self) -> Kept:
        assert isinstance(self.server, Kept)
        return self.server

    def log_request(self, code="-", size="-"):
        pass

    def do_GET(self):
        self._answer(len(self.kept.vectors))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kept, what = self.kept.vectors, self.path.split("/")[-1]
        if what == "collections":
            self.kept.facts = self.kept.facts or body["metadata"]
            self._answer({"id": "7", "metadata": self.kept.facts})
        elif what == "upsert":
            kept.update(zip(body["ids"], body["embeddings"], strict=True))
            self._answer({})
        elif what == "delete":
            self._answer({"deleted": len([kept.pop(name) for name in body["ids"] if name in kept])})
        else:
            self._answer(self._found(body))

    def _found(self, body):
        names, queries = list(self.kept.vectors), torch.tensor(body["query_embeddings"])
        vectors = torch.tensor(list(self.kept.vectors.values())) if names else queries[:0]
        far = (1 - queries @ vectors.T).tolist()
        lines = [sorted(zip(names, line, strict=True), key=lambda pair: pair[1])[: body["n_results"]] for line in far]
        return {"ids": [[n for n, _ in line] for line in lines], "distances": [[d for _, d in line] for line in lines]}

    def _answer(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())


@pytest.fixture
def pretended():
    """Addresses of two of them."""
    servers = [Kept(), Kept()]
    yield [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def real(tmp_path):
    """Addresses of two Chroma servers on this machine."""
    if not CHROMA:
        pytest.skip("needs Chroma's server: pip install chromadb in any environment, FEATLIFT_CHROMA=…/bin/chroma")
    ports, running = [_free_port() for _ in range(2)], []
    for port in ports:
        words = [CHROMA, "run", "--path", str(tmp_path / str(port)), "--host", "127.0.0.1", "--port", str(port)]
        running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    yield [_awaited(f"http://127.0.0.1:{port}") for port in ports]
    for process in running:
        process.terminate()
        process.wait(10)


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _awaited(server):
    for _ in range(150):
        try:
            urlopen(f"{server}/api/v2/heartbeat", timeout=1).close()
            return server
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"{server} did not start")


@pytest.fixture(params=["pretended", "real"])
def servers(request):
    return request.getfixturevalue(request.param)


def test_two_servers_find_what_one_machine_finds(tmp_path, servers):
    """Everything that a gallery lives through, beside exact search in the store it was copied from."""
    store, queries = VectorStore(tmp_path / "store", 16, fingerprint="f"), unit(5, seed=1)
    store.add([f"place {i}/ü.png" for i in range(300)], unit(300))
    store.remove(["place 7/ü.png"])
    served = ChromaIndex(servers, "gallery", 16, fingerprint="f")
    served.add_store(store, batch_size=64)
    assert len(served) == 299
    exact, found = exact_search(store, queries, 10), served.search(queries, 10)
    assert found.names == exact.names
    torch.testing.assert_close(torch.tensor(found.scores), exact.scores, atol=1e-5, rtol=0)

    best = found.names[0][0]
    served.remove([best, "never there"])
    store.remove([best])
    served.add(["place 8/ü.png", "new.png"], queries[:2])
    store.add(["place 8/ü.png", "new.png"], queries[:2])
    again = ChromaIndex(servers, "gallery", 16, fingerprint="f")
    assert len(again) == len(store) == 299
    assert again.search(queries, 10).names == exact_search(store, queries, 10).names


def test_both_servers_hold_a_part(pretended):
    ChromaIndex(pretended, "gallery", 16).add([str(i) for i in range(40)], unit(40))
    held = [len(ChromaIndex([server], "gallery", 16)) for server in pretended]
    assert sum(held) == 40
    assert min(held) > 5


def test_more_answers_than_vectors(pretended):
    served = ChromaIndex(pretended, "gallery", 16)
    served.add(["a", "b", "c"], unit(3))
    assert sorted(served.search(unit(1), 9).names[0]) == ["a", "b", "c"]


def test_what_does_not_fit_is_refused(servers):
    served = ChromaIndex(servers, "gallery", 16, fingerprint="gist")
    with pytest.raises(ValueError, match=r"take another name"):
        ChromaIndex(servers, "gallery", 16, fingerprint="vgg")
    with pytest.raises(ValueError, match=r"not \[n, 16\]"):
        served.add(["a"], unit(1, 8))
    with pytest.raises(ValueError, match=r"at least one address"):
        ChromaIndex([], "gallery", 16)


def test_a_server_that_is_not_there():
    with pytest.raises(ConnectionError, match=r"chroma run"):
        ChromaIndex([f"http://127.0.0.1:{_free_port()}"], "gallery", 16)


def test_what_a_server_objects_to_is_told(real):
    served = ChromaIndex(real, "gallery", 16)
    served.add(["a"], unit(1))
    with pytest.raises(ValueError, match=r"answered 400.*dimension of 16"):
        served.search(unit(1, 8), 1)
