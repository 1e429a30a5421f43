"""Garbage, bombs and wrong versions are refused before anything is queued."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest
import torch
import zstandard

from edif_backend.errors import PayloadRefused, PayloadTooLarge, VersionRefused
from edif_backend.gateway import torchfile
from edif_backend.gateway.payloads import check_payload, check_version
from edif_protocol.wire import ENV_CHARACTERS, Envelope, ModelKey

PICKLE = pickle.dumps({"block": "h = model.output.save()"}, protocol=4)
LIMIT = 1 << 20


@pytest.mark.parametrize("version", ["0.8.0", "0.8.1", "0.8.12.dev3"])
def test_clients_of_the_served_series_are_taken(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", [None, "", "0.7.2", "0.9.0", "0.80.1", "1.0", "garbage"])
def test_other_clients_are_told_what_to_install(version: str | None) -> None:
    with pytest.raises(VersionRefused, match=r'pip install "nnsight==0\.8\.\*"'):
        check_version(version)


def test_payloads_of_nnsight_are_taken() -> None:
    check_payload(PICKLE, compress=False, limit_bytes=LIMIT)
    check_payload(zstandard.ZstdCompressor().compress(PICKLE), compress=True, limit_bytes=LIMIT)


@pytest.mark.parametrize(
    ("payload", "compress"),
    [
        (b"", False),
        (b"", True),
        (b"garbage", False),
        (b"garbage", True),
        (PICKLE, True),
        (PICKLE[:-1], False),
        (zstandard.ZstdCompressor().compress(PICKLE), False),
        (zstandard.ZstdCompressor().compress(PICKLE)[:-3], True),
        (zstandard.ZstdCompressor().compress(b"garbage"), True),
        (pickle.dumps([1], protocol=2), False),
    ],
)
def test_garbage_is_refused(payload: bytes, compress: bool) -> None:
    with pytest.raises(PayloadRefused):
        check_payload(payload, compress, LIMIT)


def test_bombs_are_refused_by_declared_and_by_actual_size() -> None:
    bomb = PICKLE[:2] + bytes(2 * LIMIT) + b"."
    with pytest.raises(PayloadTooLarge):
        check_payload(zstandard.ZstdCompressor().compress(bomb), compress=True, limit_bytes=LIMIT)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bomb)
    with pytest.raises(PayloadTooLarge):
        check_payload(silent, compress=True, limit_bytes=LIMIT)
    with pytest.raises(PayloadTooLarge):
        check_payload(bomb, compress=False, limit_bytes=LIMIT)


def test_what_the_gateway_writes_is_what_torch_load_reads() -> None:
    record = {"id": "x", "status": "COMPLETED", "data": b"\x00\x80" * 100, "meta": {"seconds": {"run": 0.5}}}
    data = torchfile.dumps(record)
    assert torch.load(io.BytesIO(data), weights_only=False) == record
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None


def test_a_model_key_is_read_and_its_class_never_imported() -> None:
    key = ModelKey(repo_id="edif/tiny-gpt2", revision=None, task="text-generation")
    assert ModelKey.parse(key.text()) == key
    for text in [
        "os.system:{}",
        "nnsight.modeling.transformers.TransformersModel:",
        "",
        "x",
        f"antigravity:{{}}{'x' * 500}",
        f"nnsight.modeling.transformers.TransformersModel:{'[' * 2000}",
    ]:
        with pytest.raises(ValueError, match=r"model key"):
            ModelKey.parse(text)


def test_an_env_that_would_fill_the_jobs_table_is_refused() -> None:
    def text(length: int) -> str:
        return json.dumps({"model_key": "x", "env": {"a": "x" * length}})

    Envelope.model_validate_json(text(ENV_CHARACTERS - 9))
    with pytest.raises(ValueError, match=f"{ENV_CHARACTERS + 1} characters of JSON, and may have {ENV_CHARACTERS}"):
        Envelope.model_validate_json(text(ENV_CHARACTERS - 8))
