"""A model that cannot be built or run here, said in one sentence instead of transformers' pages of frames.

Installed by :mod:`edif_kernel.startup`; runs in the kernel's process.  Nothing is refused that worked before: only an
error that has already happened is explained, after asking the backend what it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import wrapt

import edif

HUGGING_FACE = "nnsight.modeling.huggingface"


def install_when_nnsight_is_imported() -> None:
    """Wrap nnsight's Hugging Face models as soon as the user imports them."""
    wrapt.register_post_import_hook(lambda _module: install(), HUGGING_FACE)


def install() -> None:
    """Wrap the building of a model and the loading of its weights."""
    wrapt.wrap_function_wrapper(HUGGING_FACE, "HuggingFaceModel.__init__", _building)
    wrapt.wrap_function_wrapper(HUGGING_FACE, "HuggingFaceModel.dispatch", _loading)


def _building(wrapped: Callable[..., None], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        wrapped(*args, **kwargs)
    except OSError as error:
        name = args[0] if args else kwargs.get("repo_id")
        served = edif.models()  # says so if the backend is down, which is then the reason
        if any(known.id == name for known in served):
            raise
        known = ", ".join(model.id for model in served) or "none"
        sentence = _mirrors_sentence(error) or f"The model {name} was not found. Models served here: {known}."
        raise edif.ModelUnknown(sentence) from error


def _loading(wrapped: Callable[..., None], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        wrapped(*args, **kwargs)
    except (OSError, ValueError) as error:
        if any(known.id == model.repo_id for known in edif.models()):
            raise edif.WeightsElsewhere(model.repo_id) from error
        raise


def _mirrors_sentence(error: BaseException) -> str | None:
    """What the model mirror itself said, from the error that started the chain."""
    return next((said for cause in _chain(error) if (said := getattr(cause, "server_message", None))), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
