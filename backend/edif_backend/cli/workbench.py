"""``edif up``, ``down`` and ``status``: the life of one installation.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from edif_backend.cli.checks import FAIL, before_start, check_home
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.located import find_installation, reached_at
from edif_backend.cli.processes import end_members
from edif_backend.cli.readiness import gateway_status, wait_until_serving, waiting_for
from edif_backend.cli.supervision import ProgramState, start, states, stop
from edif_backend.errors import SetupFailed
from edif_backend.models.catalogue import Catalogue, write_default
from edif_protocol.installation import Installation, TomlSettings

#: Exit status of a command that was interrupted, as shells have it.
_INTERRUPTED = 130


class _Login(TomlSettings):
    """Of the hub's ``[login]``: where people log in, if not with the shared password."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_LOGIN_", toml_table_header=("login",), frozen=True, extra="ignore", env_nested_delimiter="__"
    )

    issuers: tuple[dict[str, Any], ...] = Field(default=(), description="login services; the hub has all of it")


class Stopped(Exception):
    """Somebody asked this command to end (Ctrl-C, SIGTERM, a closed terminal)."""


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything serves.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65000, help="Public port; the five after it are used too.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until a start counts as failed.")] = 180.0,
) -> None:
    """Start the workbench and say where it is; Ctrl-C stops it all (with --detach, `edif down` does)."""
    found = find_installation()
    with _signals_raise():
        try:
            with _one_at_a_time(found):
                if states(found) is not None:
                    _already_running(found)
                    return
                installation = find_installation(port)
                _prepare(installation)
                supervisor = _start(installation, timeout)
        except Stopped:
            say("Stopped; what was set up so far is kept.")
            raise typer.Exit(_INTERRUPTED) from None
        _welcome(installation, detach)
        if not detach:
            _serve(installation, supervisor)


def _start(installation: Installation, timeout_s: float) -> subprocess.Popen[bytes]:
    """The supervisor, once everything serves; if that fails for whatever reason, everything is stopped again."""
    try:
        supervisor = start(installation)
        wait_until_serving(installation, timeout_s, say)
    except BaseException:
        _stop_all(installation)
        raise
    return supervisor


def _serve(installation: Installation, supervisor: subprocess.Popen[bytes]) -> None:
    """Stay in the foreground until Ctrl-C, or until `edif down` elsewhere ends the supervisor."""
    try:
        status = supervisor.wait()
    except Stopped:
        _stop_all(installation)
        say("Stopped.")
        return
    end_members(installation)
    if status:
        raise SetupFailed(f"The supervisor ended unexpectedly (status {status}); start again with `edif up`.")
    say("The workbench was stopped.")


def _stop_all(installation: Installation) -> None:
    # Stopping takes seconds and must not be cut short by a second, impatient Ctrl-C.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    say("stopping everything ...")
    stop(installation)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals_raise() -> Iterator[None]:
    def raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped

    before = {number: signal.signal(number, raise_stopped) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _one_at_a_time(installation: Installation) -> Iterator[None]:
    """Two `edif up` of one installation at once: the second waits, and then finds it running."""
    home = check_home(installation)
    if home.state == FAIL:
        raise SetupFailed(home.sentence)
    with (installation.home / "up.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `edif up` is starting this workbench; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _already_running(installation: Installation) -> None:
    missing = waiting_for(installation)
    if missing:
        say(f"The workbench is running at {reached_at(installation)}, but waits for {missing}: see `edif status`.")
        raise typer.Exit(1)
    say(f"The workbench is already running at {reached_at(installation)} (`edif down` stops it).")


def _prepare(installation: Installation) -> None:
    """Everything before the first long-lived process is started.

    Raises:
        SetupFailed: something must be mended first.
    """
    reached_at(installation)
    left = end_members(installation)
    if left:
        say(f"ended {left} processes that a killed supervisor had left behind")
    for check in before_start(installation):
        if check.state == FAIL:
            raise SetupFailed(check.sentence)
        if check.mend:
            say(check.sentence)
    write_default(installation.models_file)
    Catalogue.load(installation.models_file)
    installation.secret("admin-password")
    command = [sys.executable, "-m", "edif_backend.models", "prepare", "--pinned"]
    with subprocess.Popen(command, env=installation.child_environment("preparation"), stdout=sys.stderr) as preparation:
        try:
            status = preparation.wait()
        except Stopped:
            preparation.terminate()
            raise
    if status:
        raise SetupFailed("A pinned model could not be made ready (see above); after mending that, try again.")


def _welcome(installation: Installation, detach: bool) -> None:
    secrets = installation.home / "secrets"
    print(f"The workbench is ready: {reached_at(installation)}")
    if issuers := _Login().issuers:
        print(f"  People log in with {', '.join(str(issuer.get('title', issuer.get('id'))) for issuer in issuers)}.")
    else:
        print(f"  Log in with any user name and the password {installation.secret('user-password')}")
        print(f"  (kept in {secrets / 'user-password'}; the account `admin` has the one in admin-password beside it).")
    print('  From any Python on this machine: eval "$(./edif env)", then nnsight with remote=True.')
    print("  ./edif down stops it." if detach else "  Ctrl-C stops it.", flush=True)


def down() -> None:
    """Stop everything that belongs to this installation; exit status 0 also when nothing ran."""
    installation = find_installation()
    was_running = states(installation) is not None
    left = stop(installation)
    say("Stopped." if was_running or left else "Nothing was running.")


def status(as_json: AsJson = False) -> None:
    """What runs, and whether it serves (exit status 0) or not (1)."""
    installation = find_installation()
    programs = states(installation)
    missing = "`edif up`: it is not running" if programs is None else waiting_for(installation)
    answer = gateway_status(installation) if programs is not None else None
    models: dict[str, dict[str, Any]] = answer["deployments"] if answer else {}
    waiting: dict[str, int] = answer["waiting"] if answer else {}
    if as_json:
        show_json(
            {
                "serving": missing is None,
                "waiting_for": missing,
                "url": reached_at(installation),
                "home": str(installation.home),
                "processes": [_as_record(program) for program in programs or []],
                "models": models,
                "waiting": waiting,
            }
        )
    else:
        say(f"The workbench at {reached_at(installation)} " + (f"waits for {missing}." if missing else "is serving."))
        rows = [(program.role, program.state, program.description) for program in programs or []]
        rows += [(f"model {name}", model["application_state"], model["description"]) for name, model in models.items()]
        rows += [(f"queue of {name}", str(count), "jobs waiting") for name, count in waiting.items()]
        if rows:
            show_table(("What", "State", "More"), rows, "")
    if missing:
        raise typer.Exit(1)


def _as_record(program: ProgramState) -> dict[str, Any]:
    return {"role": program.role, "state": program.state, "pid": program.pid, "description": program.description}
