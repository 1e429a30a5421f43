"""Settings of the backend: the tables ``[backend]`` and ``[limits]`` of ``edif.toml``, and ``EDIF_…`` variables.

The first is built once, at the composition root of each process (gateway, dispatcher, command line); parts get what
they need as arguments.  Limits are read again when the file changes (:mod:`edif_backend.jobs.policy`).
"""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import TomlSettings

MIB = 1024 * 1024


class BackendSettings(TomlSettings):
    """Limits and sizes of the fabric; every field says what an operator needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_BACKEND_", toml_table_header=("backend",), frozen=True, extra="forbid"
    )

    # -- gateway --------------------------------------------------------------
    gateway_port: int = Field(
        default=0, description="port of one more gateway of this installation; 0: that of the installation itself"
    )
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
    kept_keep_s: float = Field(
        default=30 * 86400.0, description="how long a value of edif.keep is kept after it was last used"
    )

    # -- jobs -----------------------------------------------------------------
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="jobs database, postgresql://user:password@host/name; empty means SQLite in the installation",
    )
    job_attempts: int = Field(default=3, description="how often a job is started when replicas or executors are lost")
    lease_s: float = Field(default=15.0, description="a claimed job whose dispatcher is silent this long is requeued")

    # -- replicas and executors -----------------------------------------------
    model_memory_bytes: int = Field(
        default=0, description="memory that loaded models may take together on each machine; 0: seven tenths of it"
    )
    warm_memory_bytes: int | None = Field(
        default=None,
        description="memory of each machine where evicted models wait to come back at once; unset: a tenth of it",
    )
    use_gpus: bool = Field(
        default=False,
        description="place models on this machine's NVIDIA GPUs instead of in its memory"
        " (docs/decisions/gpu-executors.md)",
    )
    simulated_devices: tuple[int, ...] = Field(
        default=(), description="bytes of each of some pretended devices that models are placed on: to try placement"
    )
    model_turn_s: float = Field(
        default=30.0, description="how long a model that has work is left loaded when another waits for its memory"
    )
    scale_up_s: float = Field(
        default=5.0, description="a model gets one more copy, up to its maximum, when jobs wait so long for a slot"
    )
    scale_down_s: float = Field(default=300.0, description="a copy beyond a model's minimum goes when idle for so long")
    accept_weak_jail: bool = Field(
        default=False, description="run user code where the kernel has neither Landlock nor seccomp: for trusted users"
    )
    slots: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 1)), description="jobs at once per replica")
    threads: int = Field(default=1, description="torch threads of one executor")
    executor_memory_bytes: int = Field(default=8192 * MIB, description="address space of one executor beyond the model")
    executor_tmp_bytes: int = Field(default=256 * MIB, description="size of an executor's private /tmp")
    result_limit_bytes: int = Field(default=4096 * MIB, description="largest result of one job")


class Limits(BaseModel):
    """What one user may use.  In a table of a group or a user the keys that are left out count as not said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, gt=0, le=1000, description="share of the devices, relative to other users")
    queued_jobs: int = Field(default=1000, ge=0, description="jobs that may wait at once; 0: any number")
    running_jobs: int = Field(default=0, ge=0, description="jobs that may run at once; 0: as many as there are slots")
    payload_bytes: int = Field(
        default=1024 * MIB, ge=0, description="payloads of all waiting and running jobs together; 0: any size"
    )
    stored_bytes: int = Field(
        default=20 * 1024 * MIB, ge=0, description="results that are kept, beyond it the oldest go first; 0: all"
    )
    device_seconds_per_day: float = Field(
        default=0.0, ge=0, description="seconds that jobs may run in all from midnight to midnight UTC; 0: any time"
    )
    time_limit_s: float = Field(default=600.0, gt=0, description="longest run of a job that asks for nothing else")
    max_time_limit_s: float = Field(
        default=1800.0, gt=0, description="longest run that a job may ask for; time_limit_s counts if it is longer"
    )


class LimitSettings(Limits, TomlSettings):
    """The table ``[limits]``: for everybody, then ``[limits.groups.NAME]`` and ``[limits.users.NAME]``."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_LIMITS_", toml_table_header=("limits",), frozen=True, extra="forbid"
    )

    groups: dict[str, Limits] = Field(
        default_factory=dict, description="by group of the hub; of several groups the most generous value counts"
    )
    users: dict[str, Limits] = Field(
        default_factory=dict, description="by user; what is said here counts, whatever the user's groups have"
    )
