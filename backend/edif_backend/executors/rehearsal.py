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
from edif_backend.executors.weights_layout import Layout
from edif_protocol.wire import envoy_name


class Rehearsal:
    """Small jobs, from their frames to their results, over a socket pair."""

    def __init__(self, model: nnsight.TransformersModel, allowance: Allowance, layout: Layout | None = None) -> None:
        """Make the payloads.

        Args:
            layout: of weights that lie on devices; :meth:`play`, on the host, then ends after the embeddings.
        """
        self._model = model
        self._allowance = allowance
        self._layout = layout
        tokens, prompt = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]]), "A first prompt"
        self._whole = [self._payload(tokens), self._payload(prompt, named=True)]
        self._payloads = [self._embeddings(prompt), self._embeddings(prompt, named=True)] if layout else self._whole

    def _embeddings(self, prompt: str, named: bool = False) -> bytes:
        wanted = self._model._module.get_input_embeddings()
        name = next(name for name, part in self._model._module.named_modules() if part is wanted)
        sample, model, embeddings = _Sample(self._model if named else None), self._model, self._model.get(name)
        with model.trace(prompt, backend=sample) as tracer:
            answer = embeddings.output.sum().save()  # noqa: F841 - found by its name on the way back
            tracer.stop()
        return sample.payload

    def _payload(self, prompt: torch.Tensor | str, named: bool = False) -> bytes:
        # Not self: what a block names is sent along with it.
        sample, model = _Sample(self._model if named else None), self._model
        with model.trace(prompt, backend=sample):
            answer = model.output.logits[:, -1].argmax().save()  # noqa: F841 - found by its name on the way back
        return sample.payload

    def play(self) -> None:
        """Run them.

        Raises:
            RuntimeError: one failed, so every job would; the message says why.
        """
        self._play(self._payloads, None)

    def play_whole(self) -> None:
        """Run the whole ones, twice, where the model is computed with.

        Raises:
            RuntimeError: as :meth:`play`.
        """
        for _ in range(2):
            self._play(self._whole, self._layout)

    def _play(self, payloads: list[bytes], layout: Layout | None) -> None:
        env = self._model._remoteable_get_env()
        for payload in payloads:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.sendall(frames.words(Kind.JOB, compress=True, env=env) + frames.pack(Kind.PAYLOAD, payload))
                with contextlib.redirect_stdout(sys.stdout), contextlib.redirect_stderr(sys.stderr):
                    serve(theirs, self._model, 1, self._allowance, layout)
                while (frame := frames.receive(ours, frames.WORDS_BYTES))[0] not in (Kind.DONE, Kind.FAILED):
                    pass
            if frame[0] is Kind.FAILED:
                raise RuntimeError(frames.read_words(frame[1])["description"])


class _Sample(Backend):
    """Keeps a trace's payload instead of running it.

    Args:
        named: the model whose envoys are named in it, as eDIF's own clients do; None writes them out, as nnsight does.
    """

    def __init__(self, named: nnsight.TransformersModel | None) -> None:
        self._named = named._children if named else []
        self.payload = b""

    def __call__(self, tracer: Tracer) -> None:
        for child in self._named:
            child._persistent_id = envoy_name(child.path)
        # As clients send it by default; they compress with zstd, and its frame is read by the same code.
        self.payload = RequestModel.serialize(tracer, compress=True)
        for child in self._named:
            del child._persistent_id
