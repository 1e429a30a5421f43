"""What a job may take, held against what it will: one that would not fit is refused before its forward pass begins.

Called by the executor.  Batch and length are known when nnsight has put the inputs of all invokes together, which is
when the model itself is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edif_backend.models.peaks import Profile

if TYPE_CHECKING:
    import nnsight


class JobTooLarge(Exception):
    """The job would need more than it may take: memory, or tokens in a row."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one job may take, and what is known of the model's needs."""

    profile: Profile | None
    memory_bytes: int  #: beyond the model
    adapters: dict[str, str]  #: folders of the PEFT adapters it may ask for, by name
    context_tokens: int = 0  #: the longest sequence, generated tokens included; 0: as long as the model can

    @contextmanager
    def watched(self, model: nnsight.TransformersModel, generated: int) -> Iterator[None]:
        """Within, calls of the model that would need too much raise :class:`JobTooLarge`.

        Args:
            generated: tokens that the job says it generates for each sequence.
        """
        module = model._module
        # Measured with one attention implementation; where the job has chosen another, the limit itself must do.
        attention = getattr(module.config, "_attn_implementation", None)
        profile = self.profile if self.profile and self.profile.attention == attention else None
        if profile is None and not self.context_tokens:
            yield
            return

        def check(_: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
            given: Any = _first(inputs.get("input_ids"), inputs.get("inputs_embeds"), *args)
            if getattr(given, "ndim", 0) >= 2:
                batch, tokens = given.shape[:2]
                self._check(profile, batch, tokens, inputs, generated)

        hook = module.register_forward_pre_hook(check, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _check(self, profile: Profile | None, batch: int, tokens: int, inputs: dict[str, Any], generated: int) -> None:
        before = _length(inputs.get("past_key_values"))
        length = before + tokens + (0 if before else generated)  # later steps are tokens that were generated
        if self.context_tokens and length > self.context_tokens:
            more = f" ({tokens} and {generated} to generate)" if generated and not before else ""
            raise JobTooLarge(
                f"The job was stopped before its sequence of {length} tokens{more}: this model takes at most "
                f"{self.context_tokens} here. Trace shorter prompts, or generate less."
            )
        if profile is None or before:
            return  # a later step of a generation was counted with the first
        if not generated and inputs.get("logits_to_keep") == 1:
            generated = 1
        needed = profile.peak_bytes(batch, tokens, generated)
        if needed > self.memory_bytes:
            more = f" and {generated} generated ones each" if generated else ""
            raise JobTooLarge(
                f"The job was not run: {batch} x {tokens} tokens{more} need about {needed / 1e9:.2f} GB of memory, and "
                f"one job may take {self.memory_bytes / 1e9:.2f} GB. Trace fewer or shorter prompts at once."
            )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _length(cache: Any) -> int:
    """Tokens that a KV cache holds already."""
    return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
