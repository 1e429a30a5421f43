"""``edif limits``, ``edif reserve`` and ``edif reservations``: what users may, and lab hours.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.  Gateway and dispatcher follow within a second
or two; what is set here is kept in the jobs database and counts over ``edif.toml``.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.laptop_keys import span_s
from edif_backend.cli.located import find_installation
from edif_backend.errors import SetupFailed
from edif_backend.jobs import Jobs, Policy, Reservation, open_jobs
from edif_backend.jobs.policy import parse_limits
from edif_backend.settings import BackendSettings, Limits

app = typer.Typer(help="What users may have under way and use; without a command: what is said now.")
reservations = typer.Typer(help="Lab hours that are not over.")

Group = Annotated[str | None, typer.Option(help="A group of the hub.")]
User = Annotated[str | None, typer.Option(help="One user, whatever groups they are in.")]


@app.callback(invoke_without_command=True)
def limits(context: typer.Context, user: User = None, as_json: AsJson = False) -> None:
    """What is said for everybody, for groups and for users; with --user what counts for one user, and their use."""
    if context.invoked_subcommand:
        return
    with _jobs() as jobs:
        policy = Policy(find_installation().config_file, jobs)
        if user:
            groups = jobs.groups([user]).get(user, [])
            found, use = policy.limits(user, groups), dataclasses.asdict(jobs.use(user))
            records: dict[str, Any] = {user: found.model_dump()}
        else:
            groups, use, records = [], None, policy.said()
    if as_json:
        show_json({**records, "groups": groups, "use": use} if user else records)
        return
    columns = list(records)
    rows = [(name, *(_shown(records[column].get(name)) for column in columns)) for name in Limits.model_fields]
    show_table(("Limit", *columns), rows, "")
    if use is not None:
        say(f"Groups: {', '.join(groups) or 'none known; they are noted with a job'}.")
        show_table(("In use", user or ""), [(name, _shown(value)) for name, value in use.items()], "")


@app.command("set")
def set_limits(
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="such as queued_jobs=50; 0: no limit")],
    group: Group = None,
    user: User = None,
) -> None:
    """Say what a group or a user may, over edif.toml; values that were set before and are not named stay."""
    subject = _subject(group, user)
    said = parse_limits(values)
    with _jobs() as jobs:
        try:
            jobs.set_limits(subject, {**jobs.limits_set().get(subject, {}), **said})
        except ValidationError as error:
            found = error.errors()[0]
            raise SetupFailed(f"{found['loc'][0]}: {found['msg']}.") from error
    note_act("limits.set", subject, said=" ".join(values))
    say(f"Set for {subject.replace(':', ' ')}; it counts within seconds.")


@app.command()
def clear(group: Group = None, user: User = None) -> None:
    """Take back all that was set for a group or a user; edif.toml counts again."""
    subject = _subject(group, user)
    with _jobs() as jobs:
        jobs.set_limits(subject, {})
    note_act("limits.clear", subject)
    say(f"Nothing is set for {subject.replace(':', ' ')} any more.")


def reserve(
    group: Annotated[str, typer.Argument(help="The group whose lab hour it is.")],
    start: Annotated[str, typer.Option("--from", help='Such as "2026-01-31 10:00", in this machine\'s time.')] = "now",
    length: Annotated[str, typer.Option("--for", help="How long: 90m, 2h, 1d.")] = "1h",
    weight: Annotated[float, typer.Option(min=0.01, max=1000, help="Each member's weight in that time.")] = 4.0,
) -> None:
    """Give a group's members a larger share for a while; who has a larger weight anyway keeps it."""
    begin = _moment(start)
    reservation = Reservation(secrets.token_hex(4), group, weight, begin, begin + span_s("--for", length))
    with _jobs() as jobs:
        if reservation.ends_at <= jobs.now():
            raise SetupFailed("That time is over: see --from and --for.")
        jobs.reserve(reservation)
    until = _clock(reservation.ends_at)
    note_act("reservation.make", group, until=until)
    say(f"Reserved for {group} until {until}; `edif reservations cancel {reservation.id}` ends it.")


@reservations.callback(invoke_without_command=True)
def show_reservations(context: typer.Context, as_json: AsJson = False) -> None:
    """The reservations that run or will."""
    if context.invoked_subcommand:
        return
    with _jobs() as jobs:
        found = jobs.reservations(jobs.now())
    if as_json:
        show_json([dataclasses.asdict(one) for one in found])
        return
    rows = [(one.id, one.group, f"{one.weight:g}", _clock(one.starts_at), _clock(one.ends_at)) for one in found]
    show_table(("Id", "Group", "Weight", "From", "Until"), rows, "Nothing is reserved.")


@reservations.command("cancel")
def cancel_reservation(id: Annotated[str, typer.Argument(help="Id from `edif reservations`.")]) -> None:
    """End a reservation, or take back one that has not begun."""
    with _jobs() as jobs:
        if not jobs.unreserve(id):
            raise SetupFailed(f"There is no reservation {id}: `edif reservations` shows those there are.")
    note_act("reservation.cancel", id)
    say(f"The reservation {id} is gone.")


@contextmanager
def _jobs() -> Iterator[Jobs]:
    installation = find_installation()
    jobs = open_jobs(installation.jobs_database, url=BackendSettings().database_url)
    try:
        yield jobs
    finally:
        jobs.close()


def _subject(group: str | None, user: str | None) -> str:
    if (group is None) == (user is None):
        raise SetupFailed("Say for whom: --group NAME or --user NAME.")
    return f"group:{group}" if group else f"user:{user}"


def _moment(text: str) -> float:
    if text == "now":
        return datetime.now(UTC).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()  # without an offset: this machine's time
    except ValueError:
        raise SetupFailed(f'--from {text!r} is not understood: write now, or such as "2026-01-31 10:00".') from None


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,.12g}"
