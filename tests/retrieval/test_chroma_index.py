"""The Chroma index, tested with a fake server and, if it is installed, with the real one: ``FEATLIFT_CHROMA`` is the path of its program,
or ``chroma`` is on the search path.
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


class FakeServer(ThreadingTCPServer):
    """Vectors by name, and the metadata of the collection."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.vectors, self.metadata = {}, None
        threading.Thread(target=self.serve_forever, daemon=True).start()


class FakeHandler(BaseHTTPRequestHandler):
    """Exact search in a dictionary, with Chroma's interface."""

    disable_nagle_algorithm = True
    seen: set[str] = set()
    """Tokens received."""

    @property
    def store(self) -> FakeServer:
        assert isinstance(self.server, FakeServer)
        return self.server

    def log_request(self, code="-", size="-"):
        pass

    def do_GET(self):
        self._respond(len(self.store.vectors))

    def do_POST(self):
        if "Authorization" in self.headers:
            self.seen.add(f"{self.headers['Authorization']} {self.headers['X-Chroma-Token']}")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        vectors, endpoint = self.store.vectors, self.path.split("/")[-1]
        if endpoint == "collections":
            self.store.metadata = self.store.metadata or body["metadata"]
            self._respond({"id": "7", "metadata": self.store.metadata})
        elif endpoint == "upsert":
            vectors.update(zip(body["ids"], body["embeddings"], strict=True))
            self._respond({})
        elif endpoint == "delete":
            self._respond({"deleted": len([vectors.pop(name) for name in body["ids"] if name in vectors])})
        else:
            self._respond(self._query(body))

    def _query(self, body):
        names, queries = list(self.store.vectors), torch.tensor(body["query_embeddings"])
        vectors = torch.tensor(list(self.store.vectors.values())) if names else queries[:0]
        distances = (1 - queries @ vectors.T).tolist()
        rows = [
            sorted(zip(names, row, strict=True), key=lambda pair: pair[1])[: body["n_results"]] for row in distances
        ]
        return {"ids": [[n for n, _ in row] for row in rows], "distances": [[d for _, d in row] for row in rows]}

    def _respond(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())


@pytest.fixture
def fake():
    """Addresses of two fake servers."""
    servers = [FakeServer(), FakeServer()]
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
        command = [CHROMA, "run", "--path", str(tmp_path / str(port)), "--host", "127.0.0.1", "--port", str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    yield [_wait_for(f"http://127.0.0.1:{port}") for port in ports]
    for process in running:
        process.terminate()
        process.wait(10)


def _free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _wait_for(server):
    for _ in range(150):
        try:
            urlopen(f"{server}/api/v2/heartbeat", timeout=1).close()
            return server
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"{server} did not start")


@pytest.fixture(params=["fake", "real"])
def servers(request):
    return request.getfixturevalue(request.param)


def test_two_servers_equal_exact_search(tmp_path, servers):
    """All operations, compared with exact search in the store from which the index was filled."""
    store, queries = VectorStore(tmp_path / "store", 16, fingerprint="f"), unit(5, seed=1)
    store.add([f"place {i}/ü.png" for i in range(300)], unit(300))
    store.remove(["place 7/ü.png"])
    index = ChromaIndex(servers, "gallery", 16, fingerprint="f")
    index.add_store(store, batch_size=64)
    assert len(index) == 299
    exact, results = exact_search(store, queries, 10), index.search(queries, 10)
    assert results.names == exact.names
    torch.testing.assert_close(torch.tensor(results.scores), exact.scores, atol=1e-5, rtol=0)

    best = results.names[0][0]
    index.remove([best, "unknown"])
    store.remove([best])
    index.add(["place 8/ü.png", "new.png"], queries[:2])
    store.add(["place 8/ü.png", "new.png"], queries[:2])
    reopened = ChromaIndex(servers, "gallery", 16, fingerprint="f")
    assert len(reopened) == len(store) == 299
    assert reopened.search(queries, 10).names == exact_search(store, queries, 10).names


def test_both_servers_hold_a_part(fake):
    ChromaIndex(fake, "gallery", 16).add([str(i) for i in range(40)], unit(40))
    counts = [len(ChromaIndex([server], "gallery", 16)) for server in fake]
    assert sum(counts) == 40
    assert min(counts) > 5


def test_k_larger_than_the_number_of_vectors(fake):
    index = ChromaIndex(fake, "gallery", 16)
    index.add(["a", "b", "c"], unit(3))
    assert sorted(index.search(unit(1), 9).names[0]) == ["a", "b", "c"]


def test_the_token_is_sent_but_never_in_plain_text(fake):
    ChromaIndex(fake[:1], "gallery", 16, token="secret").add(["a"], unit(1))
    assert FakeHandler.seen == {"Bearer secret secret"}
    with pytest.raises(ValueError, match=r"'http://10\.0\.0\.5:8000' would receive the token unencrypted"):
        ChromaIndex(["http://10.0.0.5:8000"], "gallery", 16, token="secret")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "/etc/passwd", "ftp://host", "http://", "localhost:8000"])
def test_only_addresses_of_servers(address):
    with pytest.raises(ValueError, match=rf"'{address}' is no address of a server"):
        ChromaIndex([address], "gallery", 16)


ANSWERS = {
    "no JSON": b"HTTP/1.0 200 OK\r\n\r\n<html>",
    "cut": b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{",
    "no HTTP": b"hello\r\n\r\n",
    "other fields": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "a list": b"HTTP/1.0 200 OK\r\n\r\n[]",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_other_servers_are_named(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ANSWERS[answer])
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # closing with unread data would reset the connection
                    pass

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=rf"{address}.* (does not answer as Chroma does|does not respond)"):
            ChromaIndex([address], "gallery", 16)


def test_mismatches_are_rejected(servers):
    index = ChromaIndex(servers, "gallery", 16, fingerprint="gist")
    with pytest.raises(ValueError, match=r"use another collection name"):
        ChromaIndex(servers, "gallery", 16, fingerprint="vgg")
    with pytest.raises(ValueError, match=r"not \[n, 16\]"):
        index.add(["a"], unit(1, 8))
    with pytest.raises(ValueError, match=r"at least one address"):
        ChromaIndex([], "gallery", 16)


def test_a_server_that_does_not_respond():
    with pytest.raises(ConnectionError, match=r"chroma run"):
        ChromaIndex([f"http://127.0.0.1:{_free_port()}"], "gallery", 16)


def test_errors_of_the_server_are_reported(real):
    index = ChromaIndex(real, "gallery", 16)
    index.add(["a"], unit(1))
    with pytest.raises(ValueError, match=r"returned 400.*dimension of 16"):
        index.search(unit(1, 8), 1)
