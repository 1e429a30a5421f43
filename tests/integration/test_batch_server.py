"""A user server as a batch job, through batchspawner: real hub, proxy, server; a stand-in for Slurm's commands."""

from __future__ import annotations

import getpass
import json
import shlex
import sys
import time
from pathlib import Path

import httpx
from tests.conftest import installation
from tests.hub_alone import hub_alone, until

STANDIN = Path(__file__).resolve().parents[1] / "slurm_standin.py"


#: Where this file is in the home, the job ends as soon as it has begun.
ENDS = "end-at-once"


def _told_why_not(browser: httpx.Client, user: str) -> str:
    """Start a server that will not come, as a browser does; gives the page that says so."""
    answer = browser.get("/hub/spawn")
    deadline = time.monotonic() + 60
    while answer.status_code < 400:
        assert time.monotonic() < deadline, answer.text[-2000:]
        time.sleep(0.3)
        answer = browser.get(f"/hub/spawn-pending/{user}")
    return answer.text


def test_a_batch_job_becomes_the_users_server_and_ends_with_it(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, str(STANDIN), str(tmp_path)])
    options = {"exec_prefix": "", "req_srun": "", "req_partition": "lab"}
    options["req_prologue"] = f"test ! -e {ENDS}\nexport PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    options |= {
        f"batch_{act}_cmd": f"{command} {act}{' {job_id}' if act != 'submit' else ''}"
        for act in ("submit", "query", "cancel")
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
    user = getpass.getuser()  # servers of this kind belong to accounts of the machine
    with installation("batch") as made:
        made.installation.config_file.write_text(f'[servers]\nspawner = "batch"\n[servers.options]\n{lines}')
        with hub_alone(made.installation, ("proxy", "hub")) as hub, hub.browser(user) as browser:
            (tmp_path / "home").mkdir()
            (tmp_path / "home" / ENDS).touch()
            told = _told_why_not(browser, user)
            assert "ended right after it had begun" in told
            assert "jupyterhub_slurmspawner_" in told
            (tmp_path / "home" / ENDS).unlink()

            browser.get("/hub/spawn?opt-memory=512G&opt-prologue=exit")  # what one may not choose
            hub.start(browser, user)
            shown = browser.get(f"/user/{user}/edif/workbench").json()
            assert (shown["courses"], shown["notices"]) == ("/services/courses/", [])
            assert (tmp_path / "home" / "tutorials" / "00_hello.ipynb").exists()
            script = (tmp_path / "script").read_text()
            assert "#SBATCH --partition=lab\n" in script
            assert "#SBATCH --mem=2048M\n" in script
            assert "#SBATCH --cpus-per-task=1\n" in script
            key = hub.installation.secret("hub-admin-token")
            assert key not in script
            assert "NDIF_API_KEY" in script  # by name: its value comes by the environment alone
            with hub.api() as api:
                api.delete(f"/users/{user}/server")
            until(lambda: hub.server(user) is None, "the job is cancelled")
