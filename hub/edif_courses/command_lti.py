"""``edif course lti``: learning platforms that launch here, and who is linked with whom.

Registered by :mod:`edif_courses.command`; runs in the operator's shell.
"""

from __future__ import annotations

from typing import Annotated

import httpx
import typer

from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_courses.command_desk import OPERATOR, Id, browsers_reach, opened
from edif_courses.lti_token import Platform
from edif_courses.lti_tool import addresses, lti_key, open_launches
from edif_courses.names_roles import NamesRoles

app = typer.Typer(help="Learning platforms (Moodle) by LTI 1.3.", no_args_is_help=True)


@app.command("addresses")
def show_addresses() -> None:
    """What to type in at the platform when this tool is added there."""
    rows = list(addresses(browsers_reach()).items())
    show_table(("There", "Here"), rows, "")


@app.command("add")
def add(
    issuer: Annotated[str, typer.Option(help="Platform ID, an address.")],
    client: Annotated[str, typer.Option(help="Client ID that the platform gave this tool.")],
    deployment: Annotated[list[str], typer.Option(help="Deployment ID; may be given again.")],
    auth_url: Annotated[str, typer.Option(help="Authentication request URL.")],
    token_url: Annotated[str, typer.Option(help="Access token URL.")],
    keys_url: Annotated[str, typer.Option(help="Public keyset URL.")],
) -> None:
    """Let a platform launch here, or change what is known of it."""
    with opened() as desk, httpx.Client(timeout=10) as client_:
        platform = Platform(issuer, client, " ".join(deployment), auth_url, token_url, keys_url)
        open_launches(desk, browsers_reach(), client_).register_platform(platform)
    say(f"{issuer} may launch here.")


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """The platforms, and the courses that are connected with theirs."""
    with opened() as desk:
        query = (
            "SELECT p.issuer, p.client, p.deployments, c.context, c.course FROM lti_platforms p"
            " LEFT JOIN lti_contexts c ON c.issuer = p.issuer AND c.client = p.client ORDER BY 1, 2, 4"
        )
        found = [dict(row) for row in desk.register.read(query)]
    if as_json:
        show_json(found)
        return
    columns = ("issuer", "client", "deployments", "context", "course")
    rows = [[one[name] for name in columns] for one in found]
    show_table([name.capitalize() for name in columns], rows, "No platform may launch here yet.")


@app.command("roster")
def roster(id: Id) -> None:
    """Ask the platform for its names and roles, and take them into the roster."""
    installation = find_installation()
    with opened(ring=True) as desk, httpx.Client(timeout=10) as client:
        people = NamesRoles(desk.register, desk.enrolment, desk.trail, client, lti_key(installation))
        change, waiting = people.take(OPERATOR, id)
    say(f"{len(change.added)} added, {len(change.changed)} changed; {waiting} have not opened the activity yet.")


@app.command("unlink")
def unlink(account: Annotated[str, typer.Argument(help="Account of the hub.")]) -> None:
    """Forget whom learning platforms call this account; the next launch asks again."""
    with opened() as desk:
        gone = desk.register.write("DELETE FROM lti_people WHERE account = :account", {"account": account})
        desk.trail.note("lti-unlinked", OPERATOR.account, "", account=account, links=gone)
    say(f"{gone} links of {account} are gone.")
