"""Settings of the backend: the table ``[backend]`` of ``edif.toml`` and ``EDIF_BACKEND_…`` variables.

Built once, at the composition root of each process (gateway, dispatcher, command line); parts get what they need as
arguments.
"""

from __future__ import annotations

import os

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import TomlSettings

MIB = 1024 * 1024


class BackendSettings(TomlSettings):
    """Limits and sizes of the fabric; every field says what an operator needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_BACKEND_", toml_table_header=("backend",), frozen=True, extra="forbid"
    )

    # -- gateway --------------------------------------------------------------
    max_payload_bytes: int = Field(default=64 * MIB, description="largest request payload, compressed or not")
    max_unpacked_bytes: int = Field(default=512 * MIB, description="largest payload after decompression")
    inline_result_bytes: int = Field(default=4 * MIB, description="results up to this size ride on the websocket")
    result_link_s: int = Field(default=3600, description="how long a signed result link stays valid")
    hub_answer_s: float = Field(default=30.0, description="how long the hub's yes to a key is believed")
    hub_refusal_s: float = Field(default=5.0, description="how long the hub's no to a key is believed")
    hub_outage_s: float = Field(default=600.0, description="how long known keys keep working while the hub is down")
    allow_hub_redirect: bool = Field(
        default=True, description="whether the model mirror sends unknown repositories on to huggingface.co"
    )

    # -- objects --------------------------------------------------------------
    objects_endpoint: str = Field(
        default="", description="address of an S3 service, such as http://host:9000; empty: files of this installation"
    )
    objects_bucket: str = Field(default="edif", description="bucket for payloads and results, made if missing")
    objects_access_key: SecretStr = Field(default=SecretStr(""), description="access key of the S3 service")
    objects_secret_key: SecretStr = Field(default=SecretStr(""), description="secret key of the S3 service")
    result_keep_s: float = Field(default=7 * 86400.0, description="how long a result is kept after its job has ended")
    stored_limit_bytes: int = Field(
        default=20 * 1024 * MIB, description="results kept of one user; beyond it the oldest go first"
    )

    # -- jobs -----------------------------------------------------------------
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="jobs database, postgresql://user:password@host/name; empty means SQLite in the installation",
    )
    job_time_limit_s: float = Field(default=600.0, description="longest run of one job")
    job_attempts: int = Field(default=3, description="how often a job is started when replicas or executors are lost")
    lease_s: float = Field(default=15.0, description="a claimed job whose dispatcher is silent this long is requeued")

    # -- replicas and executors -----------------------------------------------
    model_memory_bytes: int = Field(
        default=0, description="memory that loaded models may take together; 0: seven tenths of the machine's"
    )
    model_turn_s: float = Field(
        default=30.0, description="how long a model that has work is left loaded when another waits for its memory"
    )
    accept_weak_jail: bool = Field(
        default=False, description="run user code where the kernel has neither Landlock nor seccomp: for trusted users"
    )
    slots: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 1)), description="jobs at once per replica")
    threads: int = Field(default=1, description="torch threads of one executor")
    executor_memory_bytes: int = Field(default=8192 * MIB, description="address space of one executor beyond the model")
    executor_tmp_bytes: int = Field(default=256 * MIB, description="size of an executor's private /tmp")
    result_limit_bytes: int = Field(default=4096 * MIB, description="largest result of one job")
