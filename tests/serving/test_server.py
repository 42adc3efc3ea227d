"""The server answers as the model does, and refuses in one line of JSON."""

import base64
import concurrent.futures
import http.client
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import PIL.Image
import pytest
from conftest import LABELS
from conftest import environment
from conftest import interruptible

from tlkeras import api
from tlkeras import errors
from tlkeras.models import saving
from tlkeras.serving import answers
from tlkeras.serving import server as servers


@pytest.fixture(scope="module")
def answerer(trained):
    return answers.Answerer(saving.load(trained.directory))


@pytest.fixture(scope="module")
def pictures(photos, trained):
    """Returns files of each class, and the answer to each."""
    paths = [
        str(path)
        for label in LABELS
        for path in sorted((photos / label).glob("[0-9]*.png"))[:3]
    ]
    found = api.load(trained.directory).predict(paths)
    return [
        (pathlib.Path(path).read_bytes(), each)
        for path, each in zip(paths, found, strict=True)
    ]


@pytest.fixture
def start(answerer):
    """Returns a function that starts a server of this process."""
    running = []

    def run(**options):
        server = servers.Server(answerer, **options)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append(server)
        return server

    yield run
    for server in running:
        server.shutdown()
        server.server_close()


def ask(server, method="POST", path="/predict", body=b"", **headers):
    """Returns status, headers and body of an answer."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=30)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def test_a_picture_is_answered_as_the_model_answers_it(start, pictures):
    server = start()
    for encoded, expected in pictures:
        status, headers, body = ask(server, body=encoded)
        found = json.loads(body)
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert list(found["probabilities"]) == list(LABELS)
        np.testing.assert_allclose(
            list(found["probabilities"].values()),
            expected["probabilities"],
            atol=1e-5,
        )


def test_where_it_looked_comes_with_it_if_asked(start, pictures):
    encoded, expected = pictures[0]
    _, _, body = ask(start(), path="/predict?explain=1", body=encoded)
    found = json.loads(body)
    assert found["map_note"] == "class activation map"
    kind, _, data = found["map"].partition(",")
    assert kind == "data:image/png;base64"
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (16, 16)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/predict", b"no picture", 400, "not an image"),
        ("POST", "/predict", b"", 400, "empty file"),
        ("POST", "/predict", b"\x89PNG\r\n\x1a\nno", 400, "truncated PNG"),
        ("POST", "/predict", b"1" * 5001, 413, "at most 5,000 are allowed"),
        ("POST", "/other", b"", 404, "posted to /predict"),
        ("GET", "/predict", b"", 404, "there is / (a page)"),
        ("GET", "/../etc/passwd", b"", 404, "there is / (a page)"),
        ("PUT", "/predict", b"1", 501, "Unsupported method"),
    ],
)
def test_what_is_wrong_is_told(start, method, path, body, status, reason):
    found, headers, text = ask(start(most_bytes=5000), method, path, body)
    assert (found, headers["Content-Type"]) == (status, "application/json")
    assert reason in json.loads(text)["error"]


def test_a_body_without_a_length_is_refused(start):
    for headers in (
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "-1"},
        {"Content-Length": "1" * 5000},
    ):
        status, _, _ = ask(start(), body=None, **headers)
        assert status in (411, 413)


def test_only_this_machine_is_served_by_its_own_names(start):
    server = start()
    for host in ("127.0.0.1", "localhost:99", "[::1]:8000"):
        assert ask(server, "GET", "/health", Host=host)[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert ask(server, "GET", "/health", Host=host)[0] == 403


def test_a_slow_client_is_given_up(start):
    server = start(seconds=0.5)
    with socket.create_connection(server.server_address, timeout=5) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        client.sendall(b"Content-Length: 100\r\n\r\n")
        began = time.monotonic()
        for _ in range(8):
            time.sleep(0.1)
            try:
                client.sendall(b"x")
            except OSError:
                break
        said = client.recv(4096)
    assert said.startswith(b"HTTP/1.1 408")
    assert b"of 100 bytes came in 0.5 seconds" in said
    assert time.monotonic() - began < 3
    with socket.create_connection(server.server_address, timeout=5) as client:
        # One that says nothing is hung up on.
        assert client.recv(1) == b""


def test_too_many_connections_are_refused_and_free_again(start, pictures):
    server = start(seconds=1)
    silent = [
        socket.create_connection(server.server_address, timeout=5)
        for _ in range(servers.CONNECTIONS)
    ]
    time.sleep(0.3)
    # All of a large one is sent before the answer is read.
    for sent in (pictures[0][0], bytes(5_000_000)):
        status, headers, body = ask(server, body=sent)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "too many connections" in json.loads(body)["error"]
    for each in silent:
        each.close()
    time.sleep(1.2)
    assert ask(server, body=pictures[0][0])[0] == 200


def test_one_connection_takes_several_requests(start, pictures):
    connection = http.client.HTTPConnection(*start().server_address)
    bodies = [pictures[0][0], b"broken", pictures[1][0]]
    statuses = []
    for body in bodies:
        connection.request("POST", "/predict", body)
        reply = connection.getresponse()
        reply.read()
        statuses.append(reply.status)
    assert statuses == [200, 400, 200]
    connection.close()


def storm(address, pictures, requests: int) -> dict[int, int]:
    """Sends requests from 8 clients at once, every fifth a broken picture."""

    def one(number: int) -> int:
        encoded, expected = pictures[number % len(pictures)]
        broken = number % 5 == 0
        connection = http.client.HTTPConnection(*address, timeout=60)
        try:
            body = encoded[: len(encoded) // 2] if broken else encoded
            connection.request("POST", "/predict", body)
            reply = connection.getresponse()
            found = json.loads(reply.read())
        finally:
            connection.close()
        if broken:
            assert found == {"error": "truncated PNG"}
        else:
            assert found["label"] == expected["label"]
            assert abs(found["score"] - expected["score"]) < 1e-5
        return reply.status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(requests)))
    return {each: statuses.count(each) for each in set(statuses)}


def test_eight_clients_at_once(start, pictures):
    found = storm(start().server_address, pictures, 80)
    assert found == {200: 64, 400: 16}


def test_a_port_that_is_taken(start):
    port = start().server_address[1]
    with pytest.raises(errors.UserError, match="Give another --host or --port"):
        start(port=port)


def test_the_page_brings_all_that_it_needs(start):
    status, headers, body = ask(start(), "GET", "/")
    page = body.decode("utf-8")
    assert status == 200
    assert all(label in page for label in LABELS)
    assert "http://" not in page and "https://" not in page
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert ask(start(), "HEAD", "/")[2] == b""


@pytest.fixture
def command(trained, tmp_path):
    """Starts `tlkeras serve` in a process; returns it and its address."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tlkeras", "serve", "--port=0"),
            f"--model={trained.directory}",
        ],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    line = process.stdout.readline()
    found = re.fullmatch(r"http://(.*):(\d+)/ \(Ctrl-C ends it\)\n", line)
    yield process, (found[1], int(found[2]))
    process.kill()
    process.communicate()


def memory(process) -> int:
    """Returns the memory of a process [MB]."""
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) // 1024


@pytest.mark.slow
def test_a_thousand_requests_let_nothing_grow(command, pictures):
    process, address = command
    storm(address, pictures, 200)
    before = memory(process)
    threads = len(os.listdir(f"/proc/{process.pid}/task"))
    found = storm(address, pictures, 1000)
    assert found == {200: 800, 400: 200}
    assert memory(process) - before < 20
    assert len(os.listdir(f"/proc/{process.pid}/task")) <= threads + 2
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
