"""The model mirror over real HTTP: what the Hub's own client and a stock nnsight get from it, and what nobody gets."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from edif_backend.gateway.mirror import mirror_routes
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, TINY_LORA_ID, Catalogue, write_default
from edif_backend.models.snapshots import Snapshot, prepare
from edif_protocol.installation import Installation
from edif_protocol.mirror_ticket import endpoint

PREPARED_MODELS = Path(__file__).resolve().parents[2] / ".artifacts" / "models"
SENTENCE = "stay on the server: trace with remote=True"


@dataclass
class Mirror:
    """A running mirror, its snapshots by id, and the requests that came."""

    port: int
    snapshots: dict[str, Snapshot]
    seen: list[str] = field(default_factory=list)
    prefix: str = ""  #: a ticket in the address

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hf/{self.prefix}".rstrip("/")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}/{path}", headers=headers)

    def raw(self, path: str) -> tuple[int, bytes]:
        """GET exactly ``path``, which httpx would tidy up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def client(self, home: Path, script: str, *arguments: str) -> str:
        """Run ``script`` in a process that has nothing but HF_ENDPOINT; any connection elsewhere ends it."""
        guard = f"""
import sys
def guard(event, arguments):
    if event == "socket.connect" and arguments[1][1] != {self.port}:
        print("connection elsewhere:", arguments[1], file=sys.stderr)
        import os; os._exit(9)
sys.addaudithook(guard)
"""
        done = subprocess.run(
            [sys.executable, "-c", guard + script, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "HOME": str(home),
                "HF_HOME": str(home / "hf"),
                "HF_ENDPOINT": self.url,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Snapshot]:
    catalogue = tmp_path_factory.mktemp("catalogue") / "models.toml"
    write_default(catalogue)
    return {entry.id: prepare(entry, PREPARED_MODELS, print) for entry in Catalogue.load(catalogue).entries}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation with the prepared models."""
    made = tmp_path_factory.mktemp("home")
    (made / "models").symlink_to(PREPARED_MODELS)
    return made


@pytest.fixture(scope="module")
def mirror(snapshots: dict[str, Snapshot], home: Path) -> Iterator[Mirror]:
    with serve(snapshots.values(), home, allow_redirect=False) as running:
        yield running


@contextmanager
def serve(snapshots: Iterable[Snapshot], home: Path, *, allow_redirect: bool) -> Iterator[Mirror]:
    """A mirror on a free port for the length of a ``with`` block."""
    app = FastAPI()
    known = {snapshot.entry.id: snapshot for snapshot in snapshots}
    catalogue = Catalogue(tuple(snapshot.entry for snapshot in known.values()))
    app.include_router(mirror_routes(catalogue, Installation(home=home), allow_redirect), prefix="/hf")
    seen: list[str] = []

    @app.middleware("http")
    async def remember(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        seen.append(f"{request.method} {request.url.path}")
        return await call(request)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield Mirror(server.servers[0].sockets[0].getsockname()[1], known, seen)
    finally:
        server.should_exit = True
        thread.join(30)


STOCK_CLIENT = """
import json
from nnsight import TransformersModel
model = TransformersModel(sys.argv[1], task="text-generation")
key = model.to_model_key()
with open(sys.argv[2]) as file:
    texts = json.load(file)
tokens = [model.tokenizer(text).input_ids for text in texts]
print(json.dumps({"key": key, "tokens": tokens, "meta": all(p.is_meta for p in model.parameters())}))
"""


@pytest.mark.parametrize("spelling", [DEMO_ID, TINY_ID, "eDIF/Tiny-GPT2"])
def test_a_stock_client_builds_its_model_from_the_mirror_alone(mirror: Mirror, tmp_path: Path, spelling: str) -> None:
    canonical = DEMO_ID if spelling == DEMO_ID else TINY_ID
    texts = ["The Eiffel Tower is in the city of", "Hello  123 wörld\n\t 4", "<|im_start|>user\nHi<|im_end|>"]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    mirror.seen.clear()
    told = json.loads(mirror.client(tmp_path, STOCK_CLIENT, spelling, str(tmp_path / "texts.json")))
    requests = list(mirror.seen)

    assert told["key"] == (
        "nnsight.modeling.transformers.TransformersModel:"
        + json.dumps({"repo_id": canonical, "revision": None, "task": "text-generation"})
    )
    assert told["meta"]
    assert told["tokens"] == own_tokens(mirror.snapshots[canonical].folder, texts)
    assert not [line for line in requests if line.endswith((".safetensors", ".bin"))]
    assert len(requests) <= 25, requests  # 18 with transformers 5.22: more would make notebooks slow to start


def own_tokens(folder: Path, texts: list[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in texts]


LOAD_WEIGHTS = """
from nnsight import TransformersModel
try:
    TransformersModel(sys.argv[1], task="text-generation", dispatch=True)
except Exception as error:
    print(error)
"""


def test_loading_weights_from_the_mirror_tells_to_trace_remotely(mirror: Mirror, tmp_path: Path) -> None:
    assert SENTENCE in mirror.client(tmp_path, LOAD_WEIGHTS, TINY_ID)


CLIENT_PAYLOAD = """
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend

class Write(Backend):
    def __call__(self, tracer):
        with open(sys.argv[2], "wb") as file:
            file.write(RequestModel.serialize(tracer))

model = TransformersModel(sys.argv[1], task="text-generation")
with model.trace("The Eiffel Tower is in", backend=Write()):
    hidden = model.transformer.h[1].output
    model.transformer.h[2].output[:] = 0
    word = model.tokenizer.decode(model.lm_head.output[0, -1].argmax())
    print(tuple(hidden.shape), repr(word))
"""

RUN_PAYLOAD = """
import sys
from pathlib import Path
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.loading import load
from edif_backend.models.snapshots import find
from nnsight.schema.request import RequestModel

entry = ModelEntry(id=sys.argv[1], repo=sys.argv[1], title="", source="tiny")
model = load(find(entry, Path(sys.argv[2])), entry)
payload = Path(sys.argv[3]).read_bytes()
tracer = RequestModel.deserialize(payload, model._remoteable_persistent_objects())
tracer.execute(tracer.info.code)
"""


def test_the_payload_of_a_stock_client_runs_on_the_loaded_model(mirror: Mirror, tmp_path: Path) -> None:
    mirror.client(tmp_path, CLIENT_PAYLOAD, TINY_ID, str(tmp_path / "payload"))
    done = subprocess.run(
        [sys.executable, "-c", RUN_PAYLOAD, TINY_ID, str(PREPARED_MODELS), str(tmp_path / "payload")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("(1, 5, 128) '"), done.stdout


def test_a_file_comes_with_commit_tag_length_and_range(mirror: Mirror) -> None:
    snapshot = mirror.snapshots[TINY_ID]
    wanted = (snapshot.folder / "config.json").read_bytes()
    for revision in ("main", snapshot.commit):
        whole = mirror.get(f"{TINY_ID}/resolve/{revision}/config.json")
        assert whole.content == wanted
        assert whole.headers["X-Repo-Commit"] == snapshot.commit
        assert whole.headers["ETag"] == f'"{snapshot.manifest.files["config.json"].sha256[:40]}"'
    head = httpx.head(f"{mirror.url}/{TINY_ID}/resolve/main/config.json")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(wanted)))
    part = mirror.get(f"{TINY_ID}/resolve/main/config.json", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, wanted[10:20])


def test_the_models_record_is_what_the_hub_would_say(mirror: Mirror) -> None:
    snapshot = mirror.snapshots[DEMO_ID]
    for path in (f"api/models/{DEMO_ID.upper()}", f"api/models/{DEMO_ID}/revision/main"):
        record = mirror.get(path).json()
        assert (record["id"], record["sha"], record["pipeline_tag"]) == (DEMO_ID, snapshot.commit, "text-generation")
        assert record["safetensors"]["total"] == 134_515_008
        assert {"rfilename": "tokenizer.json"}.items() <= {
            key: value
            for file in record["siblings"]
            if file["rfilename"] == "tokenizer.json"
            for key, value in file.items()
        }.items()


def test_the_tree_lists_files_and_misses_folders(mirror: Mirror) -> None:
    names = [file["path"] for file in mirror.get(f"api/models/{TINY_ID}/tree/main?recursive=true").json()]
    assert names == list(mirror.snapshots[TINY_ID].manifest.files)
    assert mirror.get(f"api/models/{TINY_ID}/tree/main/chat").headers["X-Error-Code"] == "EntryNotFound"


@pytest.mark.parametrize("name", ["model.safetensors", "edif-snapshot.json", "edif-verified.json", "none.json"])
def test_weights_and_our_own_notes_are_not_served(mirror: Mirror, name: str) -> None:
    answer = mirror.get(f"{TINY_ID}/resolve/main/{name}")
    if name == "model.safetensors":
        assert answer.status_code == 400
        assert SENTENCE in answer.headers["X-Error-Message"]
        assert SENTENCE in answer.json()["error"]
    else:
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "EntryNotFound")
        assert answer.headers["X-Repo-Commit"] == mirror.snapshots[TINY_ID].commit


def test_another_revision_is_refused_in_the_hubs_way(mirror: Mirror) -> None:
    for path in (f"{TINY_ID}/resolve/v2/config.json", f"api/models/{TINY_ID}/revision/v2"):
        answer = mirror.get(path)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RevisionNotFound")


def test_an_unknown_model_is_answered_with_near_spellings(mirror: Mirror) -> None:
    answer = mirror.get("api/models/edif/tiny-gtp2")
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")
    assert f"Did you mean {TINY_ID}?" in answer.headers["X-Error-Message"]


@pytest.mark.parametrize(
    "path",
    [
        f"/hf/{TINY_ID}/resolve/main/../../../{TINY_ID.replace('/', '--')}/config.json",
        f"/hf/{TINY_ID}/resolve/main/%2e%2e/{DEMO_ID.replace('/', '--')}/config.json",
        f"/hf/{TINY_ID}/resolve/main/..%2f..%2fmodels.toml",
        f"/hf/{TINY_ID}/resolve/main//etc/passwd",
        f"/hf/{TINY_ID}/resolve/main/%00",
        f"/hf/{TINY_ID}/resolve/main/./config.json",
        "/hf/..%2f..%2f/resolve/main/passwd.json",
        "/hf/../resolve/main/config.json",
        f"/hf/api/models/{TINY_ID}/tree/main/..",
        f"/hf/api/models/{TINY_ID}/tree/../..",
        "/hf/api/models/a%0d%0aX-Header:%20b/c",
        "/hf/%ff%fe/resolve/main/config.json",
        "/hf/",
    ],
)
def test_tricks_with_paths_lead_nowhere(mirror: Mirror, path: str) -> None:
    status, body = mirror.raw(path)
    assert status == 404, body
    assert b"root:" not in body


def test_a_link_in_a_snapshot_is_not_followed_out(snapshots: dict[str, Snapshot], tmp_path: Path) -> None:
    tiny = prepare(snapshots[TINY_ID].entry, tmp_path / "models", print)
    config = tiny.folder / "config.json"
    (tmp_path / "secret.json").write_bytes(config.read_bytes())  # the same size: only the link gives it away
    config.unlink()
    config.symlink_to(tmp_path / "secret.json")
    with serve([tiny], tmp_path, allow_redirect=False) as mirror:
        assert mirror.get(f"{TINY_ID}/resolve/main/config.json").status_code == 404


def test_other_repositories_go_to_the_hub_where_the_site_allows_it(snapshots: dict[str, Snapshot], home: Path) -> None:
    with serve(snapshots.values(), home, allow_redirect=True) as mirror:
        for path in (
            "gpt2/resolve/main/config.json",
            "openai-community/gpt2/resolve/main/model.safetensors",
            "api/models/openai-community/gpt2/tree/main?recursive=true",
            "datasets/owner/name/resolve/main/data.csv",
        ):
            answer = mirror.get(path)
            assert (answer.status_code, answer.headers["Location"]) == (307, f"https://huggingface.co/{path}")
        assert mirror.get("api/models/edif/other").headers["X-Error-Code"] == "RepoNotFound"
        assert mirror.get("api/agent-harnesses").status_code == 404
        assert mirror.get(f"{TINY_ID}/resolve/main/model.safetensors").status_code == 400


def test_a_model_that_is_not_ready_says_so(snapshots: dict[str, Snapshot], tmp_path: Path) -> None:
    with serve(snapshots.values(), tmp_path, allow_redirect=True) as mirror:
        answer = mirror.get(f"{TINY_ID}/resolve/main/config.json")
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (503, "NotReady")


@pytest.fixture(scope="module")
def theirs(snapshots: dict[str, Snapshot], home: Path) -> Iterator[Mirror]:
    """A mirror whose tiny model, and so its adapter, is for the groups lab and staff."""
    tiny = snapshots[TINY_ID]
    entry = tiny.entry.model_copy(update={"groups": ("lab", "staff")})
    with serve([snapshots[DEMO_ID], replace(tiny, entry=entry)], home, allow_redirect=True) as running:
        yield running


RESTRICTED = [f"{TINY_ID}/resolve/main/{name}" for name in ("config.json", "model.safetensors")]
RESTRICTED += [f"api/models/{TINY_ID}", f"api/models/{TINY_ID}/tree/main"]
RESTRICTED += [f"{TINY_LORA_ID}/resolve/main/adapter_config.json"]


@pytest.mark.parametrize("path", RESTRICTED)
def test_a_model_for_a_group_is_not_there_without_a_ticket_of_the_group(theirs: Mirror, home: Path, path: str) -> None:
    installation = Installation(home=home)
    good = ticket(installation, ["lab"], time.time() + 60)
    missing = theirs.get("api/models/edif/nothing-such")
    for none in (
        "",
        ticket(installation, ["others"], time.time() + 60),
        ticket(installation, ["lab"], time.time() - 1),
        good[:-2] + ("a" if good[-2] != "a" else "b") + "/",
        ticket(Installation(home=home / "another"), ["lab"], time.time() + 60),
        "~/",
        "~./",
        "~%00/",
    ):
        refused = theirs.get(none + path)
        assert (refused.status_code, refused.headers["X-Error-Code"]) == (404, "RepoNotFound"), (none, refused.text)
        told = refused.text.replace(TINY_LORA_ID, "edif/nothing-such").replace(TINY_ID, "edif/nothing-such")
        assert told == missing.text, "no more than of a name that does not exist"
    assert theirs.get(good + path).status_code == (400 if path.endswith(".safetensors") else 200)


def test_what_is_for_everybody_needs_no_ticket_and_takes_any(theirs: Mirror, home: Path) -> None:
    for any_ticket in ("", "~nonsense/", ticket(Installation(home=home), ["lab"], time.time() - 1)):
        assert theirs.get(f"{any_ticket}{DEMO_ID}/resolve/main/config.json").status_code == 200


def test_a_ticket_is_not_sent_on_to_the_hub(theirs: Mirror, home: Path) -> None:
    mine = ticket(Installation(home=home), ["lab"], time.time() + 60)
    sent_on = theirs.get(f"{mine}openai-community/gpt2/resolve/main/config.json")
    assert sent_on.headers["Location"] == "https://huggingface.co/openai-community/gpt2/resolve/main/config.json"


def test_a_stock_client_builds_the_model_of_its_group(theirs: Mirror, home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(["Hello"]))
    mine = Mirror(theirs.port, theirs.snapshots, prefix=ticket(Installation(home=home), ["staff"], time.time() + 600))
    told = json.loads(mine.client(tmp_path, STOCK_CLIENT, TINY_ID, str(tmp_path / "texts.json")))
    assert told["tokens"] == own_tokens(theirs.snapshots[TINY_ID].folder, ["Hello"])


def ticket(installation: Installation, groups: list[str], ends_at: float) -> str:
    """The step of the path with a ticket, and its slash."""
    return endpoint(installation, groups, ends_at).removeprefix(f"{installation.mirror_url}/") + "/"
