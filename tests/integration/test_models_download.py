"""``python -m edif_backend.models prepare`` against a stand-in for the Hugging Face Hub that can break off."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.snapshots import Snapshot, find, prepare

REPO = "somebody/some-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = "merges.txt"
CATALOGUE = f'[models."{REPO}"]\ntitle = "Some model"\nsource = "hub"\n'
TINY = ModelEntry(id=TINY_ID, repo=TINY_ID, title="tiny", source="tiny")


class Hub(ThreadingHTTPServer):
    """Serves one repository: the files of ``snapshot`` and some that nobody needs."""

    daemon_threads = True

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {name: (snapshot.folder / name).read_bytes() for name in snapshot.manifest.files}
        self.files |= {"model.onnx": b"?", "pytorch_model.bin": b"?", "onnx/model.onnx": b"?", "notes.pdf": b"?"}
        self.files[BIG] = b" " * 24_000_000  # more than the client keeps in memory before it writes
        self.sent: list[str] = []  # names of files, as they are asked for
        self.stall = threading.Event()  # set: the big file stops half-way
        self.stalled = threading.Event()


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        path = self.path.partition("?")[0]
        if re.fullmatch(rf"/api/models/{REPO}(/revision/[^/]+)?", path):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            self.send(200, json.dumps({"_id": "1", "id": REPO, "sha": COMMIT, "siblings": siblings}).encode(), head)
        elif (name := path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")) in self.server.files:
            self.send_file(name, head)
        else:
            self.send(404, b"", head, **{"X-Error-Code": "RepoNotFound"})

    def send_file(self, name: str, head: bool) -> None:
        if not head:
            self.server.sent.append(name)
        self.send(200, self.server.files[name], head, ETag=f'"{name}"', **{"X-Repo-Commit": COMMIT})

    def send(self, status: int, data: bytes, head: bool, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if head:
            return
        if self.server.stall.is_set() and len(data) > 10_000_000:
            self.wfile.write(data[: len(data) // 2])
            self.server.stalled.set()
            self.rfile.read(1)  # until the client is gone
        else:
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name in http.server
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    server = Hub(prepare(TINY, tmp_path / "source", print))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models.toml").write_text(CATALOGUE)
    return home


def command(home: Path, endpoint: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edif_backend.models", "prepare", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(home),
            "EDIF_HOME": str(home),
            "HF_ENDPOINT": endpoint,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def found(home: Path) -> Snapshot | None:
    return find(ModelEntry(id=REPO, repo=REPO, title="", source="hub"), home / "models")


def url(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_port}"


def test_a_model_is_fetched_once_with_what_loading_it_needs(hub: Hub, home: Path) -> None:
    status, out, err = finished(command(home, url(hub)))
    assert (status, err) == (0, "")
    assert f"{REPO}: ready" in out
    snapshot = found(home)
    assert snapshot is not None
    assert snapshot.commit == COMMIT
    assert "model.safetensors" in snapshot.manifest.files
    assert not {"model.onnx", "pytorch_model.bin", "onnx/model.onnx", "notes.pdf"} & set(snapshot.manifest.files)
    assert not (snapshot.folder / ".cache").exists()
    assert (snapshot.folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]

    status, out, err = finished(command(home, "http://127.0.0.1:9"))
    assert (status, out, err) == (0, "", "")  # nothing to do, nobody to ask


def test_a_download_that_was_killed_goes_on_with_the_file_it_was_at(hub: Hub, home: Path) -> None:
    hub.stall.set()
    process = command(home, url(hub))
    try:
        assert hub.stalled.wait(60)
        while not any(path.stat().st_size > 1_000_000 for path in (home / "models").rglob("*.incomplete")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        finished(process)
    assert found(home) is None

    before = hub.sent.copy()
    assert len(before) > 3
    hub.stall.clear()
    status, _, err = finished(command(home, url(hub)))
    assert (status, err) == (0, "")
    assert set(before) & set(hub.sent[len(before) :]) == {BIG}
    snapshot = found(home)
    assert snapshot is not None
    assert (snapshot.folder / BIG).read_bytes() == hub.files[BIG]


def test_without_network_it_is_one_sentence(home: Path) -> None:
    status, _, err = finished(command(home, "http://127.0.0.1:9"))
    assert status == 1
    assert err.startswith(f"{REPO} cannot be fetched: http://127.0.0.1:9 cannot be reached: check network")
    assert err.count("\n") == 1


def test_a_repository_that_is_not_there_is_one_sentence(hub: Hub, home: Path) -> None:
    (home / "models.toml").write_text(CATALOGUE.replace("some-model", "other-model"))
    status, _, err = finished(command(home, url(hub)))
    assert status == 1
    assert 'there is no "somebody/other-model"' in err
    assert err.count("\n") == 1


def test_an_unknown_name_is_one_sentence(home: Path) -> None:
    status, _, err = finished(command(home, "http://127.0.0.1:9", "somebody/som-model"))
    assert status == 1
    assert err == (
        f'The model "somebody/som-model" is not served here. Did you mean {REPO}? Models served here: {REPO}.\n'
    )
