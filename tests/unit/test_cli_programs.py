"""What `edif` works out on its own: the supervisor's configuration, ports and folders, lifetimes of keys."""

from __future__ import annotations

import configparser
import itertools
import json
import shlex
from pathlib import Path

import pytest

from edif_backend.cli import checks, located, ray_node
from edif_backend.cli.laptop_keys import lifetime_s, user_name
from edif_backend.cli.programs import ROLES, programs, supervisor_config
from edif_backend.cli.readiness import last_lines
from edif_backend.errors import SetupFailed
from edif_backend.models import devices
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(home=tmp_path / "my 100% home", host="127.0.0.1", port=21900)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDIF_PORT", raising=False)
    monkeypatch.setenv("EDIF_HOME", str(tmp_path / "home"))


def _read(installation: Installation) -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read_string(supervisor_config(installation, programs(installation)))
    return config


def test_every_role_is_a_supervised_program_that_is_restarted(installation: Installation) -> None:
    config = _read(installation)
    for role in ROLES:
        section = config[f"program:{role}"]
        assert section["autorestart"] == "true"
        assert section["killasgroup"] == "true"
        assert f'EDIF_ROLE="{role}"' in section["environment"]


def test_paths_with_spaces_and_percent_signs_survive_the_configuration(installation: Installation) -> None:
    config = _read(installation)
    assert config["supervisord"]["directory"] == str(installation.home)
    assert config["program:hub"]["stdout_logfile"] == str(installation.logs_dir / "hub.log")
    assert shlex.split(config["program:gateway"]["command"])[1:] == ["-m", "edif_backend.gateway"]


def test_the_proxy_token_reaches_the_proxy_alone(installation: Installation) -> None:
    config = _read(installation)
    token = installation.secret("proxy-token")
    holders = [name for name in config.sections() if token in " ".join(config[name].values())]
    assert holders == ["program:proxy"]


def test_ray_is_given_no_dashboard_and_the_port_of_the_installation(installation: Installation) -> None:
    settings = BackendSettings(slots=2, model_memory_bytes=10**9, warm_memory_bytes=10**8, simulated_devices=(5, 6))
    command = ray_node.command(installation, settings, Path("/short/ray"))
    options = dict(itertools.pairwise(command))
    assert options["--port"] == str(installation.ports["ray"])
    assert options["--include-dashboard"] == "false"
    assert options["--memory"] == str(10**9)
    reported = json.loads(options["--resources"])
    assert devices.warm_bytes(reported) == 10**8
    assert devices.devices(reported) == (("simulated:0", 5), ("simulated:1", 6))


def test_socket_paths_stay_short_however_long_the_home_is(tmp_path: Path) -> None:
    long = Installation(home=tmp_path / ("x" * 200))
    # Ray adds up to 70 characters of its own to a limit of 107.
    assert len(str(located.short_dir(long) / "ray")) < 37
    assert located.short_dir(long) != located.short_dir(Installation(home=tmp_path))


def test_the_port_of_the_last_start_is_found_again(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDIF_HOME", str(installation.home))
    assert located.find_installation().port == 8000
    located.remember_port(installation)
    assert located.find_installation().port == 21900
    assert located.find_installation(9000).port == 9000
    monkeypatch.setenv("EDIF_PORT", "9100")
    assert located.find_installation().port == 9100


def test_an_unusable_port_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDIF_PORT", "many")
    with pytest.raises(SetupFailed, match="EDIF_PORT cannot be 'many'"):
        located.find_installation()


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("12h", 43200), ("7d", 604800), ("90d", 90 * 86400)])
def test_lifetimes(text: str, seconds: int) -> None:
    assert lifetime_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "0d", "-1d", "7 days", "91d", "1e9d", "999999w"])
def test_lifetimes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(SetupFailed, match="--expires"):
        lifetime_s(text)


def test_user_names_are_in_lower_case_as_the_hub_has_them() -> None:
    assert user_name("Ada") == "ada"


def test_without_bubblewrap_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checks.check_jail()
    assert found.state == checks.FAIL
    assert "apt-get install bubblewrap" in found.sentence


def test_refused_namespaces_are_told_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checks.check_jail()
    assert found.state == checks.FAIL
    assert "No permissions to create new namespace" in found.finding
    assert "administrator" in found.mend


def test_a_home_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = checks.check_home(Installation(home=tmp_path / "file" / "home"))
    assert found.state == checks.FAIL
    assert "EDIF_HOME" in found.mend


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[backend]\nlease_s = 'long'\n", "lease_s"),
        ("[backend]\nlease = 1\n", "The setting lease "),
        ("[backend\n", "not valid TOML"),
    ],
)
def test_settings_that_cannot_be_understood_are_named(text: str, words: str) -> None:
    home = located.find_installation().home
    home.mkdir()
    (home / "edif.toml").write_text(text)
    found = checks.check_settings(located.find_installation())
    assert found.state == checks.FAIL
    assert words in found.finding


def test_a_table_for_another_process_leaves_the_defaults() -> None:
    home = located.find_installation().home
    home.mkdir()
    (home / "edif.toml").write_text("[hub]\nstart_timeout_s = 5\n")
    assert checks.check_settings(located.find_installation()).state == checks.OK


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {n}\n" for n in range(20_000)))
    assert last_lines(log, 2) == ["line 19998", "line 19999"]
    assert last_lines(tmp_path / "none.log", 2) == []
