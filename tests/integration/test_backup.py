"""`edif backup` and `edif restore`: a round trip of all that is kept, with a database in use; damage is noticed."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edif_backend.cli.main import app
from edif_hub.login import private_file
from edif_protocol.installation import Installation


class Commands:
    """An installation that is never started, and its command, run in this process."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.installation = Installation(home=home)

    def edif(self, *arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(app, arguments, env={"EDIF_HOME": str(self.installation.home), **variables})

    def json(self, *arguments: str) -> Any:
        return json.loads(self.edif(*arguments, "--json").stdout)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Commands, Commands]:
    """An installation with things in it, and an empty one."""
    one, other = Commands(tmp_path / "from"), Commands(tmp_path / "to")
    home = one.installation.home
    for name, content in {
        "edif.toml": "[limits]\nqueued_jobs = 7\n",
        "models.toml": "",
        "secrets/link-key": "secret",
        "hub/users/ada/mine.ipynb": "{}",
        "objects/results/1": "result" * 1000,
        "models/large/weights": "fetched again",
        "logs/hub.log": "not kept",
        "hub/reserve": "not kept",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    for name in ("account-names", "auth-state"):  # who is who at which university; the keys of their tokens
        one.installation.secret(name)
    (home / "hub" / "cookie_secret").write_text("secret")
    for name in ("secrets/link-key", "hub/cookie_secret"):
        (home / name).chmod(0o600)
    (home / "secrets").chmod(0o700)
    with sqlite3.connect(private_file(home / "hub" / "jupyterhub.sqlite")) as database:
        database.execute("CREATE TABLE users (encrypted_auth_state BLOB)")
    (home / "hub" / "users" / "ada" / "course").symlink_to("/courses/lab")
    assert one.edif("limits", "set", "--user", "ada", "weight=3").exit_code == 0  # makes the jobs database
    return one, other


def _names(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file() or path.is_symlink()}


def test_a_round_trip_brings_all_back_and_leaves_out_what_is_made_again(
    pair: tuple[Commands, Commands], tmp_path: Path
) -> None:
    one, other = pair
    file = tmp_path / "kept.tar.gz"
    assert one.edif("backup", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    done = other.edif("restore", str(file))
    assert done.exit_code == 0, done.stderr
    before, after = one.installation.home, other.installation.home
    kept = {name for name in _names(before) if not name.startswith(("models/", "logs/", "run/", "audit/"))}
    kept -= {"hub/reserve", "jobs/jobs.sqlite-wal", "jobs/jobs.sqlite-shm"}
    assert kept <= _names(after)
    assert not {name for name in _names(after) if name.startswith(("logs/", "models/large"))}
    assert (after / "secrets" / "link-key").stat().st_mode & 0o777 == 0o600
    assert (after / "hub" / "users" / "ada" / "course").readlink() == Path("/courses/lab")
    for name in ("secrets/account-names", "secrets/auth-state", "hub/cookie_secret", "hub/jupyterhub.sqlite"):
        assert (after / name).stat().st_mode & 0o777 == 0o600, name
    assert (after / "secrets").stat().st_mode & 0o777 == 0o700
    assert other.installation.secret("account-names") == one.installation.secret("account-names")
    assert (after / "objects" / "results" / "1").read_text() == "result" * 1000
    assert other.json("limits")["user:ada"] == {"weight": 3.0}
    assert "backup.restore" in {act["act"] for act in other.json("audit")}


def test_a_database_is_whole_while_it_is_written_to(pair: tuple[Commands, Commands], tmp_path: Path) -> None:
    one, other = pair
    path = one.installation.hub_dir / "jupyterhub.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE a (n); CREATE TABLE b (n);")
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        database, number = sqlite3.connect(path), 0
        while not stop.is_set():
            with database:  # both or none
                database.execute("INSERT INTO a VALUES (?)", (number,))
                database.execute("INSERT INTO b VALUES (?)", (number,))
            number += 1
            if number == 50:
                begun.set()
        database.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        made = one.edif("backup", str(tmp_path / "kept.tar.gz"))
    finally:
        stop.set()
        writer.join()
    assert made.exit_code == 0, made.stderr
    assert other.edif("restore", str(tmp_path / "kept.tar.gz")).exit_code == 0
    with sqlite3.connect(other.installation.hub_dir / "jupyterhub.sqlite") as copy:
        counts = copy.execute("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)").fetchone()
        assert counts[0] == counts[1] >= 50
    assert not (other.installation.hub_dir / "jupyterhub.sqlite-wal").exists()


def test_nothing_is_lost_by_a_restore_and_a_damaged_file_changes_nothing(
    pair: tuple[Commands, Commands], tmp_path: Path
) -> None:
    one, other = pair
    file = tmp_path / "kept.tar.gz"
    assert one.edif("backup", str(file), "--without-homes", "--without-results").exit_code == 0
    with tarfile.open(file) as archive:
        assert not [name for name in archive.getnames() if name.startswith(("hub/users", "objects"))]
    (one.installation.home / "edif.toml").write_text("[limits]\nqueued_jobs = 8\n")
    refused = one.edif("restore", str(file))
    assert refused.exit_code == 1
    assert "--replace" in str(refused.exception)
    assert (one.installation.home / "edif.toml").read_text().endswith("8\n")
    assert one.edif("restore", str(file), "--replace").exit_code == 0
    assert (one.installation.home / "edif.toml").read_text().endswith("7\n")
    [aside] = one.installation.home.glob("before-restore-*")
    assert (aside / "edif.toml").read_text().endswith("8\n")
    assert (one.installation.home / "hub" / "users" / "ada" / "mine.ipynb").exists()  # it was never in the backup
    assert (one.installation.home / "objects" / "results" / "1").exists()

    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    refused = other.edif("restore", str(file))
    assert refused.exit_code == 1
    assert "Nothing was changed" in str(refused.exception)
    assert not (other.installation.home / "edif.toml").exists()
    assert other.edif("restore", str(tmp_path / "none")).exit_code == 1
    assert one.edif("backup", str(file)).exit_code == 1  # never over a file that is there


def test_what_is_kept_elsewhere_is_said(pair: tuple[Commands, Commands], tmp_path: Path) -> None:
    one, _ = pair
    url = "postgresql://edif@/jobs?host=/nowhere"
    made = one.edif("backup", str(tmp_path / "kept.tar.gz"), EDIF_BACKEND_DATABASE_URL=url)
    assert made.exit_code == 0, made.stderr
    assert "pg_dump" in made.stderr
