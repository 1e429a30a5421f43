"""Requests that no client sends: a real one of nnsight, changed at random.  Seeded, so that each can be made again."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

#: What comes of a number, a name or an id when somebody tries their luck.
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    1e-320,
    "",
    "\0",
    "\ud800",
    "x" * 5000,
    "🦊" * 40,
    "\u202e\u0000\r\nSet-Cookie: a=b",
    "'; DROP TABLE jobs; --",
    "' OR '1'='1",
    '") OR 1=1 --',
    "%' UNION SELECT name FROM users --",
    "../../secrets/link-key",
    "..%2f..%2fjobs.sqlite",
    "/etc/passwd",
    "C:\\Windows",
    "${jndi:ldap://x}",
    "{{7*7}}",
    [],
    {},
    [[]] * 50,
    {"a": {"b": {"c": None}}},
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What nnsight sends for one trace."""

    model_key: str
    payload: bytes  #: a pickle, not compressed


@dataclass(slots=True)
class Shot:
    """One changed request, as it goes to ``POST /request``."""

    kind: str
    content: bytes
    headers: dict[str, bytes] = field(default_factory=dict)


def shot(seed: int, sample: Sample) -> Shot:
    """The changed request that belongs to this seed."""
    dice = random.Random(seed)
    kind = dice.choice(tuple(_KINDS))
    made = _KINDS[kind](dice, sample)
    made.kind = kind
    return made


def form(envelope: str | bytes, payload: bytes, border: bytes = b"edif-fuzz") -> Shot:
    """A multipart form as nnsight sends it."""
    data = envelope if isinstance(envelope, bytes) else envelope.encode("utf-8", "surrogatepass")
    content = b"".join(
        (
            b'--%b\r\nContent-Disposition: form-data; name="data"\r\n\r\n%b\r\n' % (border, data),
            b'--%b\r\nContent-Disposition: form-data; name="blob"; filename="request"\r\n' % border,
            b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n" % (payload, border),
        )
    )
    return Shot("", content, {"content-type": b"multipart/form-data; boundary=" + border})


def _envelope(sample: Sample, **changes: Any) -> str:
    return json.dumps({"model_key": sample.model_key, "session_id": "", "compress": False, "env": {}} | changes)


def _flip(dice: random.Random, data: bytes, most: int = 8) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, most)):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _bits(dice: random.Random, sample: Sample) -> Shot:
    body = sample.payload
    return form(_envelope(sample), body[:2] + _flip(dice, body[2:-1]) + body[-1:])


def _opcodes(dice: random.Random, sample: Sample) -> Shot:
    """Pickle instructions put in, taken out and said twice, in a shape that the gateway lets through."""
    body, at = sample.payload[2:-1], dice.randrange(2, len(sample.payload) - 3)
    piece = dice.choice((b"0", b"R", b"c__main__\nx\n", b"\x93", b"\x94" * 3, b"}", b"(" * 500, b"\x8e" + b"\xff" * 8))
    length = dice.randint(0, 40)
    changed = dice.choice((body[:at] + piece + body[at:], body[:at] + body[at + length :], body[:at] * 2))
    return form(_envelope(sample), sample.payload[:2] + changed + b".")


def _cut(dice: random.Random, sample: Sample) -> Shot:
    size = dice.randrange(len(sample.payload))
    return form(_envelope(sample), dice.choice((sample.payload[:size], sample.payload[:size] + b".")))


def _frame(dice: random.Random, sample: Sample) -> Shot:
    """zstd frames that are wrong, several, silent about their size, or hold too much."""
    packed = zstandard.ZstdCompressor(write_content_size=dice.random() < 0.5).compress(sample.payload)
    bomb = zstandard.ZstdCompressor().compress(sample.payload[:2] + bytes(4 << 20) + b".")
    claims = b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 7 + b"\x7f" + packed[6:]
    payload = dice.choice((_flip(dice, packed), packed[:-3], packed * 2, packed + b"x", bomb, claims, packed[4:]))
    return form(_envelope(sample, compress=dice.random() < 0.9), payload)


def _zip(dice: random.Random, sample: Sample) -> Shot:
    """What ``torch.save`` would write, for a payload."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(dice.choice(("archive/data.pkl", "../../x", "/etc/x")), sample.payload + bytes(1 << 20))
    return form(_envelope(sample), dice.choice((buffer.getvalue(), b"\x80\x04" + buffer.getvalue() + b".")))


def _values(dice: random.Random, sample: Sample) -> Shot:
    name = dice.choice(("model_key", "session_id", "compress", "env", "extra", "env.time_limit_s", "env.x"))
    odd = dice.choice(ODD)
    changes = {"env": {name[4:]: odd}} if name.startswith("env.") else {name: odd}
    return form(_envelope(sample, **changes), sample.payload)


def _model_key(dice: random.Random, sample: Sample) -> Shot:
    class_path, _, suffix = sample.model_key.partition(":")
    deep = "[" * 1900
    changed = {**json.loads(suffix), dice.choice(("repo_id", "revision", "task", "more")): dice.choice(ODD)}
    suffix = dice.choice(
        (json.dumps(changed)[:1900], deep, '{"repo_id":' + deep, suffix[: dice.randrange(len(suffix))])
    )
    return form(_envelope(sample, model_key=f"{class_path}:{suffix}"), sample.payload)


def _json(dice: random.Random, sample: Sample) -> Shot:
    text = _envelope(sample).encode()
    deep = b'{"model_key": ' + b"[" * dice.randint(1, 100_000)
    return form(
        dice.choice((_flip(dice, text), text[: dice.randrange(len(text))], deep, b"", b"\xff\xfe" + text)), b"x"
    )


def _multipart(dice: random.Random, sample: Sample) -> Shot:
    made = form(_envelope(sample), sample.payload)
    made.content = dice.choice(
        (
            _flip(dice, made.content[:200], 3) + made.content[200:],
            made.content[: dice.randrange(len(made.content))],
            made.content * 2,
            made.content.replace(b"blob", b"data"),
            made.content.replace(b'"request"', b'"../../../../etc/cron.d/x"'),
            made.content.replace(b'"request"', b'"' + b"x" * 60_000 + b'"'),
            b"",
        )
    )
    types = (b"", b"text/plain", b"multipart/form-data", b"multipart/form-data; boundary=", b"application/json")
    if dice.random() < 0.3:
        made.headers["content-type"] = dice.choice((*types, b"multipart/form-data; boundary=" + b"-" * 300))
    return made


def _headers(dice: random.Random, sample: Sample) -> Shot:
    made = form(_envelope(sample), sample.payload)
    name = dice.choice(("ndif-api-key", "nnsight-version", "edif-request", "content-length", "range", "host", "expect"))
    odd = dice.choice((b"", b"\xff" * 20, b"x" * 9000, b"0.8.1'; --", b"-1", b"1e9", b"../../x", b"9" * 40, b"[::"))
    made.headers[name] = odd
    return made


_KINDS: dict[str, Callable[[random.Random, Sample], Shot]] = {
    "bits of the pickle": _bits,
    "instructions of the pickle": _opcodes,
    "pickle cut off": _cut,
    "zstd frames": _frame,
    "zip archives": _zip,
    "values of the envelope": _values,
    "model keys": _model_key,
    "JSON of the envelope": _json,
    "multipart": _multipart,
    "headers": _headers,
}
