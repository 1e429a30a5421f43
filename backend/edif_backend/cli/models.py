"""``edif models``: which models there are and how they are; ``add``, ``deploy``, ``evict``, ``pin``, ``unpin``.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.  A running workbench follows at once.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_backend.cli.readiness import gateway_status
from edif_backend.clock import now
from edif_backend.errors import CatalogueInvalid, NotServing, SetupFailed
from edif_backend.jobs import Jobs, open_jobs
from edif_backend.jobs.bell import Bells
from edif_backend.models import edits
from edif_backend.models.catalogue import Catalogue, ModelEntry
from edif_backend.models.orders import Act, Order, Orders
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

app = typer.Typer(help="The models of the catalogue and, while the workbench runs, their states.")

ModelId = Annotated[str, typer.Argument(metavar="ID", help="name of the model, as in models.toml")]
Wait = Annotated[float, typer.Option(help="How many seconds to wait until it is done; 0: do not wait.")]

_DISPATCHER_SILENT_S = 15.0
_LOOK_S = 0.2


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """The models of the catalogue and, while the workbench runs, their states."""
    if context.invoked_subcommand:
        return
    installation = find_installation()
    answer = gateway_status(installation)
    if answer is None:
        records = [_from_catalogue(entry) for entry in Catalogue.load(installation.models_file).entries]
    else:
        records = [_from_gateway(name, model) for name, model in answer["deployments"].items()]
        records += _not_listed(installation, {record["id"] for record in records})
    if as_json:
        show_json(records)
    else:
        columns = ("Model", "State", "Type", "Pinned", "Title", "")
        rows = [
            (r["id"], r["state"], r["dtype"], "yes" if r["pinned"] else "", r["title"], r["description"])
            for r in records
        ]
        show_table(columns, rows, f"There is no model in {installation.models_file}.")
    if answer and answer.get("catalogue_problem"):
        say(answer["catalogue_problem"])


def _from_catalogue(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "state": "NOT_RUNNING",
        "description": "",
        "replicas": 0,
        "dtype": entry.dtype,
        "pinned": entry.pinned,
        "purpose": entry.purpose,
        "title": entry.title,
    }


def _not_listed(installation: Installation, listed: set[str]) -> list[dict[str, Any]]:
    """Models for some groups only, of which the gateway tells nobody else."""
    try:
        entries = Catalogue.load(installation.models_file).entries
    except CatalogueInvalid:  # the gateway says so
        return []
    hidden = [entry for entry in entries if entry.groups and entry.id not in listed]
    if not hidden:
        return []
    table = open_jobs(installation.jobs_database, url=BackendSettings().database_url)
    try:
        known = table.deployments()
    finally:
        table.close()
    records = []
    for entry in hidden:
        told = known.get(entry.id)
        state = {"state": told.state, "description": told.description, "replicas": told.replicas} if told else {}
        records.append({**_from_catalogue(entry), **state})
    return records


def _from_gateway(name: str, model: dict[str, Any]) -> dict[str, Any]:
    kept = ("description", "replicas", "dtype", "pinned", "purpose", "title")
    return {"id": name, "state": model["application_state"], **{key: model[key] for key in kept}}


@app.command()
def add(
    id: ModelId,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    pin: Annotated[bool, typer.Option("--pin", help="Load it at once and keep it loaded.")] = False,
    title: Annotated[str, typer.Option(help="One line for listings; the name if left out.")] = "",
    source: Annotated[str, typer.Option(help="hub (Hugging Face), demo or tiny.")] = "hub",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; main if left out.")] = "",
    context_tokens: Annotated[int, typer.Option(help="Longest prompt; the model's own if left out.")] = 0,
) -> None:
    """Put a model into models.toml; a running workbench serves it from then on."""
    installation = find_installation()
    keys: dict[str, str | int | bool] = {"title": title or id, "source": source, "dtype": dtype}
    if pin:
        keys["pinned"] = True
    if revision:
        keys["revision"] = revision
    if context_tokens:
        keys["context_tokens"] = context_tokens
    entry = edits.add(installation.models_file, id, keys)
    _ring(installation)
    note_act("model.add", entry.id)
    when = "now" if entry.pinned else "when first asked for"
    say(f"{entry.id} is in {installation.models_file}; a running workbench fetches its files now, loads it {when}.")


@app.command()
def pin(id: ModelId) -> None:
    """Load a model now and at every start, and keep it loaded."""
    _set_pinned(id, True, "is pinned: loaded now, at every start, and never evicted.")


@app.command()
def unpin(id: ModelId) -> None:
    """Let a model be evicted when another needs its memory."""
    _set_pinned(id, False, "is not pinned any more: it stays loaded until its memory is needed.")


def _set_pinned(id: str, pinned: bool, sentence: str) -> None:
    installation = find_installation()
    entry = edits.set_pinned(installation.models_file, id, pinned)
    _ring(installation)
    note_act("model.pin" if pinned else "model.unpin", entry.id)
    say(f"{entry.id} {sentence}")


@app.command()
def deploy(id: ModelId, wait: Wait = 600.0) -> None:
    """Load a model now, without waiting for a job that wants it."""
    _order("deploy", id, wait)


@app.command()
def evict(id: ModelId, wait: Wait = 600.0) -> None:
    """Let a loaded model go when its running jobs have ended; the next job for it loads it again."""
    _order("evict", id, wait)


def _order(act: Act, id: str, wait_s: float) -> None:
    installation = find_installation()
    entry = Catalogue.load(installation.models_file).entry(id)
    if act == "evict" and entry.pinned:
        raise SetupFailed(f"{entry.id} is pinned and stays loaded: `edif models unpin {entry.id}` first.")
    table = open_jobs(installation.jobs_database, url=BackendSettings().database_url)
    try:
        seen_at = table.dispatcher_seen_at()
        if seen_at is None or table.now() - seen_at > _DISPATCHER_SILENT_S:
            raise NotServing("The dispatcher gives no sign of life, so nobody would do this: see `edif status`.")
        ordered_at = now()
        Orders(installation.orders_dir).place(Order(act, entry.id))
        _ring(installation)
        note_act(f"model.{act}", entry.id)
        if wait_s:
            _follow(table, act, entry.id, ordered_at, wait_s)
    finally:
        table.close()


def _follow(table: Jobs, act: Act, id: str, ordered_at: float, wait_s: float) -> None:
    """Say how far the order is, until it is done.

    Raises:
        SetupFailed: it cannot be done, or was not within ``wait_s``.
    """
    said = ""
    while now() < ordered_at + wait_s:
        found = table.deployments().get(id)
        if found and found.seen_at >= ordered_at:
            if found.description not in ("", said):
                said = found.description
                say(f"{id}: {said}")
            if found.state == "UNHEALTHY":
                raise SetupFailed(f"{id} cannot be loaded: {found.description}")
            if found.state == ("RUNNING" if act == "deploy" else "NOT_STARTED"):
                say(f"{id} is {'loaded' if act == 'deploy' else 'not loaded any more'}.")
                return
        time.sleep(_LOOK_S)
    raise SetupFailed(f"Not done after {wait_s:.0f} s; it goes on, and `edif models` tells when it is.")


def _ring(installation: Installation) -> None:
    """Have a running dispatcher look at once; with PostgreSQL it looks within seconds anyway."""
    Bells(installation.run_dir / "bells").ring("dispatcher")
