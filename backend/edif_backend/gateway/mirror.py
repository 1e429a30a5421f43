"""The model mirror: configs and tokenizers of the served models on the routes of the Hugging Face Hub.

Mounted under ``/hf`` by the gateway; clients have ``HF_ENDPOINT`` set to it, so a kernel needs no internet and gets
the tokenizer of the very revision that is served.  Weights never leave.  No key is asked for, since a Hub client has
none to send: a model for some groups is there for those whose address carries a ticket of one of them
(:mod:`edif_protocol.mirror_ticket`), and for everybody else it does not exist.

A request is answered by looking its names up in catalogue and manifest, never by walking a path, so that ``..``,
encoded slashes and links lead nowhere.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse

from edif_backend.clock import now
from edif_backend.errors import ModelUnknown
from edif_backend.models.catalogue import Catalogue, ModelEntry
from edif_backend.models.snapshots import MANIFEST, FileRecord, Snapshot, find
from edif_protocol.installation import Installation
from edif_protocol.mirror_ticket import MARK, groups_of

HUB = "https://huggingface.co"

# What a client needs to build and feed a model without weights; everything else in a snapshot is refused.
SERVED = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".md", ".py")

_REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
_API = re.compile(rf"api/models/{_REPO}(?:/(?P<verb>revision|tree)/(?P<rest>.+))?")
_RESOLVE = re.compile(rf"{_REPO}/resolve/(?P<rest>.+)")
_NO_MODEL = re.compile(r"(?:api/)?(?:datasets|spaces)/.+")  #: other things on the Hub, of which nothing is kept here


class _Refusal(Exception):
    """An answer in the Hub's own way of saying no; ``code`` decides which exception its client raises."""

    def __init__(self, status: int, code: str, sentence: str, commit: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.commit = commit

    def response(self) -> Response:
        headers = {"X-Error-Code": self.code, "X-Error-Message": _header(str(self))}
        if self.commit:  # lets clients remember that the file does not exist
            headers["X-Repo-Commit"] = self.commit
        return JSONResponse({"error": str(self)}, self.status, headers)


def mirror_routes(catalogue: Catalogue, installation: Installation, allow_redirect: bool) -> APIRouter:
    """Routes of the mirror; repositories not in ``catalogue`` go to the real Hub if ``allow_redirect``."""
    router = APIRouter()
    shelf = _Shelf(catalogue, installation, allow_redirect)

    # A plain function, since it reads small files: FastAPI runs it in a thread.
    @router.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def mirror(path: str, request: Request) -> Response:
        try:
            return shelf.answer(path, request)
        except _Refusal as refusal:
            return refusal.response()

    return router


class _Shelf:
    """What the mirror hands out, and where it sends people for the rest."""

    def __init__(self, catalogue: Catalogue, installation: Installation, allow_redirect: bool) -> None:
        self._catalogue = catalogue
        self._installation = installation
        self._models_dir = installation.models_dir
        self._allow_redirect = allow_redirect

    def answer(self, path: str, request: Request) -> Response:
        """Answer a GET or HEAD of ``path``; raises _Refusal."""
        groups: frozenset[str] = frozenset()
        if path.startswith(MARK):
            ticket, _, path = path.removeprefix(MARK).partition("/")
            groups = groups_of(self._installation, ticket, now())
        if _NO_MODEL.fullmatch(path):
            return self._elsewhere(path, request, "This mirror has models only, no data sets and no spaces.", owner="")
        resolve, api = _RESOLVE.fullmatch(path), _API.fullmatch(path)
        match = resolve or api
        if match is None:
            raise _Refusal(404, "NotFound", f"The model mirror has nothing at {path[:100]}.")
        owner = match["repo"].partition("/")[0]
        try:
            entry = self._catalogue.adapter(match["repo"]) or self._catalogue.entry(match["repo"])
            if not entry.open_to(groups):
                raise self._catalogue.unknown(match["repo"])
        except ModelUnknown as error:
            return self._elsewhere(path, request, f"{error}{self._of_groups()}", owner)
        snapshot = find(entry, self._models_dir)
        if snapshot is None:
            return self._not_here_yet(entry, path, request, owner)
        if resolve:
            return _file(snapshot, _after_revision(snapshot, resolve["rest"]), request.method)
        return _listing(snapshot, match["verb"], match["rest"], request)

    def _elsewhere(self, path: str, request: Request, sentence: str, owner: str) -> Response:
        """The real Hub's business, unless the site forbids it or the owner's name is ours alone."""
        if not self._allow_redirect or owner.casefold() in self._own_owners():
            raise _Refusal(404, "RepoNotFound", sentence)
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{HUB}/{quote(path)}{query}", 307)

    def _of_groups(self) -> str:
        """What members of a group may have to do; said of every unknown name, so that it tells of no model."""
        if not any(entry.groups for entry in self._catalogue.entries):
            return ""
        return (
            " Models for a group are found by its members, with the HF_ENDPOINT that `./edif env`, the page of keys or "
            "a newly started server has given them."
        )

    def _own_owners(self) -> set[str]:
        """The owners of models made here, which the real Hub's models of the same owner must not be mistaken for."""
        ours = (entry.id for entry in self._catalogue.entries if entry.source != "hub")
        return {name.partition("/")[0].casefold() for name in ours}

    def _not_here_yet(self, entry: ModelEntry, path: str, request: Request, owner: str) -> Response:
        sentence = f"{entry.id} is not ready here yet: try again in a few minutes, or ask whoever runs this workbench."
        if entry.source == "hub" and entry.id == entry.repo and self._allow_redirect:
            return self._elsewhere(path, request, sentence, owner)
        raise _Refusal(503, "NotReady", sentence)


def _listing(snapshot: Snapshot, verb: str | None, rest: str | None, request: Request) -> Response:
    """The model's record, or the files in one of its folders."""
    if verb is None or rest is None:
        return JSONResponse(_model_info(snapshot))
    folder = _after_revision(snapshot, rest)
    if verb == "tree":
        recursive = request.query_params.get("recursive", "").casefold() in ("1", "true")
        return JSONResponse(_tree(snapshot, folder, recursive))
    if folder:
        raise _Refusal(404, "RevisionNotFound", _wrong_revision(snapshot, rest))
    return JSONResponse(_model_info(snapshot))


def _after_revision(snapshot: Snapshot, rest: str) -> str:
    """What follows the revision at the head of ``rest``; a revision may itself hold slashes."""
    for known in (snapshot.commit, snapshot.entry.revision, "main"):
        if rest == known or rest.startswith(f"{known}/"):
            return rest[len(known) + 1 :]
    raise _Refusal(404, "RevisionNotFound", _wrong_revision(snapshot, rest.partition("/")[0]))


def _wrong_revision(snapshot: Snapshot, revision: str) -> str:
    return (
        f"{snapshot.entry.id} is served here at revision {snapshot.entry.revision} (commit {snapshot.commit}) only, "
        f"not at {revision[:100]}: leave `revision` out."
    )


def _file(snapshot: Snapshot, name: str, method: str) -> Response:
    record = snapshot.manifest.files.get(name)
    if record is None:
        raise _Refusal(404, "EntryNotFound", f"{snapshot.entry.id} has no file {name[:100]}.", snapshot.commit)
    # A HEAD may know that there are weights: clients ask that first, and take a refusal there for a bad connection.
    if not name.endswith(SERVED) and method != "HEAD":
        raise _Refusal(
            400,  # not 403, of which transformers drops the sentence and tells of missing files instead
            "WeightsStay",
            f"The weights of {snapshot.entry.id} stay on the server: trace with remote=True, which runs there "
            "(in an eDIF kernel that is the default)",
        )
    path = snapshot.folder / name
    # The manifest names regular files; should one have been replaced by a link since, it is not followed out.
    if not path.resolve().is_relative_to(snapshot.folder.resolve()) or path.is_symlink():
        raise _Refusal(404, "EntryNotFound", f"{snapshot.entry.id} has no file {name[:100]}.", snapshot.commit)
    headers = {"ETag": f'"{_oid(record)}"', "X-Repo-Commit": snapshot.commit}
    return FileResponse(path, headers=headers, media_type=_media_type(name))


def _model_info(snapshot: Snapshot) -> dict[str, Any]:
    """What ``HfApi.model_info`` reads; ``id`` is the canonical spelling, which nnsight puts into its model key."""
    entry, manifest = snapshot.entry, snapshot.manifest
    made_at = datetime.fromtimestamp((snapshot.folder / MANIFEST).stat().st_mtime, UTC)
    made = made_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "_id": snapshot.commit[:24],
        "id": entry.id,
        "modelId": entry.id,
        "author": entry.id.rpartition("/")[0],
        "sha": snapshot.commit,
        "createdAt": made,
        "lastModified": made,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["transformers", "safetensors", entry.task],
        "pipeline_tag": entry.task,
        "library_name": "transformers",
        "safetensors": {"parameters": manifest.parameters, "total": sum(manifest.parameters.values())},
        "usedStorage": sum(record.bytes for record in manifest.files.values()),
        "siblings": [
            {"rfilename": name, "size": record.bytes, "blobId": _oid(record)} for name, record in manifest.files.items()
        ],
    }


def _tree(snapshot: Snapshot, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders under ``folder`` ("" for the top) as the Hub lists them."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    listing: dict[str, dict[str, Any]] = {}
    for name, record in snapshot.manifest.files.items():
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            path = prefix + "/".join(parts[:depth])
            listing[path] = {"type": "directory", "oid": snapshot.commit, "size": 0, "path": path}
        if recursive or len(parts) == 1:
            listing[name] = {"type": "file", "oid": _oid(record), "size": record.bytes, "path": name}
    if prefix and not listing:
        raise _Refusal(404, "EntryNotFound", f"{snapshot.entry.id} has no folder {folder[:100]}.", snapshot.commit)
    return list(listing.values())


def _oid(record: FileRecord) -> str:
    """Names the contents, as git's hash does on the Hub; 40 digits, because that is what clients expect there."""
    return record.sha256[:40]


def _media_type(name: str) -> str:
    if name.endswith(".json"):
        return "application/json"
    # A browser must not take what a model's author wrote for a page of ours.
    return "application/octet-stream" if name.endswith(".model") else "text/plain; charset=utf-8"


def _header(sentence: str) -> str:
    """``sentence`` as a header can hold it: names in it come from strangers."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in sentence)[:1000]
