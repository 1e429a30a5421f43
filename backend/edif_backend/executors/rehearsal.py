"""A job played through before any user's: what is done once is done, and what it touches becomes known.

Run by the zygote, before it forks for the first time.
"""

from __future__ import annotations

import contextlib
import socket
import sys

import nnsight
import torch
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import Tracer

from edif_backend.executors import frames
from edif_backend.executors.allowance import Allowance
from edif_backend.executors.executor import serve
from edif_backend.executors.frames import Kind


class Rehearsal:
    """Small jobs, from their frames to their results, over a socket pair."""

    def __init__(self, model: nnsight.TransformersModel, allowance: Allowance) -> None:
        self._model = model
        self._allowance = allowance
        self._payloads = [self._payload(torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]])), self._payload("A first prompt")]

    def _payload(self, prompt: torch.Tensor | str) -> bytes:
        sample = _Sample()
        with self._model.trace(prompt, backend=sample):
            answer = self._model.output.logits[:, -1].argmax().save()  # noqa: F841 - found by its name on the way back
        return sample.payload

    def play(self) -> None:
        """Run them.

        Raises:
            RuntimeError: one failed, so every job would; the message says why.
        """
        env = self._model._remoteable_get_env()
        for payload in self._payloads:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.sendall(frames.words(Kind.JOB, compress=True, env=env) + frames.pack(Kind.PAYLOAD, payload))
                with contextlib.redirect_stdout(sys.stdout), contextlib.redirect_stderr(sys.stderr):
                    serve(theirs, self._model, threads=1, allowance=self._allowance)
                while (frame := frames.receive(ours, frames.WORDS_BYTES))[0] not in (Kind.DONE, Kind.FAILED):
                    pass
            if frame[0] is Kind.FAILED:
                raise RuntimeError(frames.read_words(frame[1])["description"])


class _Sample(Backend):
    """Keeps a trace's payload instead of running it."""

    payload = b""

    def __call__(self, tracer: Tracer) -> None:
        # As clients send it by default; they compress with zstd, and its frame is read by the same code.
        self.payload = RequestModel.serialize(tracer, compress=True)
