"""The NDIF protocol as nnsight 0.8 speaks it: headers, the request envelope, model keys, states and responses.

Used by the gateway (reads requests, writes responses) and by the ``edif`` client.  The facts are those of nnsight's own
``schema/request.py``, ``schema/response.py`` and ``intervention/backends/remote.py``.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

#: The series of nnsight whose payloads this installation runs.
NNSIGHT_SERIES = "0.8"

KEY_HEADER = "ndif-api-key"
NNSIGHT_HEADER = "nnsight-version"
PYTHON_HEADER = "python-version"
#: A client's own name for one request: a request that is sent again under its name is the same job.
REQUEST_HEADER = "edif-request"

#: The longest ``env`` of an envelope, as JSON: it stays in the jobs table.
ENV_CHARACTERS = 32 * 1024

#: Scope of JupyterHub that lets a key trace, and nothing else.
TRACE_SCOPE = "custom:edif:trace"

#: Where the hub's proxy shows the gateway's page, and the page's name among the hub's OAuth clients.
PAGE_PATH = "/services/edif/"
PAGE_CLIENT = "service-edif"

#: The same of the course service.
COURSES_PATH = "/services/courses/"
COURSES_CLIENT = "service-edif-courses"
#: Where that service tells the hub that rosters, rooms or leave to help have changed.
COURSES_APPLY_PATH = "/hub/api/edif-courses"

#: The hub's page where users get and end keys of their own.
KEYS_PATH = "/hub/edif-keys"
#: The hub's page for operators: people, their servers and keys.
PEOPLE_PATH = "/hub/edif-people"
#: The gateway's page for operators: jobs, models, limits, who did what.
OPERATOR_PATH = f"{PAGE_PATH}operator"

#: Wrapper classes a model key may name; anything else is not imported, whatever it says.
MODEL_CLASSES = frozenset({"nnsight.modeling.transformers.TransformersModel"})


class State(StrEnum):
    """Where a job stands.  Clients of nnsight know all but the last two, which reach them as ``ERROR``."""

    RECEIVED = "RECEIVED"  #: accepted and stored
    QUEUED = "QUEUED"  #: waits for a slot
    PROVISIONING = "PROVISIONING"  #: waits for a place for its model
    DEPLOYING = "DEPLOYING"  #: its model is being loaded
    DISPATCHED = "DISPATCHED"  #: claimed by a dispatcher
    RUNNING = "RUNNING"  #: its executor has started
    COMPLETED = "COMPLETED"  #: done, with a result
    ERROR = "ERROR"  #: done, without one
    CANCELLED = "CANCELLED"  #: stopped on its owner's word
    EXPIRED = "EXPIRED"  #: its result is past its time

    @property
    def final(self) -> bool:
        """Whether the job will not change any more."""
        return self in FINAL_STATES

    @property
    def status(self) -> str:
        """The name that a client of nnsight knows this state by."""
        return State.ERROR.value if self in (State.CANCELLED, State.EXPIRED) else self.value


FINAL_STATES = frozenset({State.COMPLETED, State.ERROR, State.CANCELLED, State.EXPIRED})
WAITING_STATES = frozenset({State.QUEUED, State.PROVISIONING, State.DEPLOYING})

#: Kind of an event that carries a line of output and no change of state.
LOG = "LOG"


class Envelope(BaseModel):
    """The JSON form field ``data`` of ``POST /request``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_key: str = Field(max_length=2048)
    session_id: str = Field(default="", max_length=64)
    compress: bool = False
    env: dict[str, Any] = Field(default_factory=dict)

    @field_validator("env")
    @classmethod
    def _short(cls, env: dict[str, Any]) -> dict[str, Any]:
        if (characters := len(json.dumps(env))) > ENV_CHARACTERS:
            raise ValueError(f"it has {characters} characters of JSON, and may have {ENV_CHARACTERS}")
        return env


class ModelKey(BaseModel):
    """``import.path.Class:{"repo_id": …, "revision": …, "task": …}``, taken apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repo_id: str = Field(min_length=1, max_length=256)
    revision: str | None = Field(default=None, max_length=128)
    task: str | None = Field(default=None, max_length=64)
    trust_remote_code: bool = False

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """Read a model key; the class it names is compared with :data:`MODEL_CLASSES` and never imported.

        Raises:
            ValueError: with a sentence that says what is wrong.
        """
        class_path, separator, suffix = text.partition(":")
        if not separator or class_path not in MODEL_CLASSES:
            known = ", ".join(sorted(MODEL_CLASSES))
            raise ValueError(f"The model key names the class {class_path[:120]!r}; this installation serves {known}.")
        try:
            return cls.model_validate(json.loads(suffix))
        except (ValidationError, ValueError, RecursionError) as error:  # the last of what is nested too deep
            raise ValueError("The model key is not the JSON that nnsight 0.8 writes after the class name.") from error

    def text(self) -> str:
        """The key as nnsight writes it for a ``TransformersModel``."""
        data: dict[str, Any] = {"repo_id": self.repo_id, "revision": self.revision}
        if self.trust_remote_code:
            data["trust_remote_code"] = True
        data["task"] = self.task
        return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(data)}"


class Response(BaseModel):
    """One status update, as a text frame of the websocket or the body of an HTTP answer."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: str
    description: str = ""
    data: str | None = None  #: on COMPLETED: link to the result
    meta: dict[str, Any] | None = None
    event: int | None = None  #: on the websocket: what a client that lost it names, to hear the rest


def envoy_name(path: str) -> str:
    """How a payload of an eDIF client names the envoy at ``path`` of the model that the server has as well."""
    return f"Envoy:{path}"


class Resume(BaseModel):
    """What a client sends on a new websocket to go on with jobs whose websocket it has lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: job id -> id of the last event that was heard of it, 0 for none
    resume: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")], Annotated[int, Field(ge=0, lt=2**63)]] = Field(
        max_length=1000
    )
