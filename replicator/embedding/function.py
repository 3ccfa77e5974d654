"""A function of the user's that makes vectors of texts."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from replicator.errors import Refused, Rejected, ReplicatorError, Unavailable


class FunctionEmbedder:
    """
    Calls `module:name`. What it raises decides what becomes of the texts: ValueError says that
    one of them is at fault, any other exception that the model is away for now.
    """

    def __init__(self, path: str, function: Callable[..., Any]) -> None:
        """Use `load`."""
        self._path = path
        self._function = function

    @classmethod
    def load(cls, path: str) -> FunctionEmbedder:
        """Raises Refused("embedder-broken") where there is no such function."""
        module, _, name = path.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except Exception as exc:  # the user's module may raise anything when it is imported
            raise Refused(
                "embedder-broken", f"{path} cannot be loaded: {type(exc).__name__}: {exc}"
            ) from exc
        if not callable(function):
            raise Refused("embedder-broken", f"{path} is no function")
        return cls(path, function)

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """As in Embedder."""
        given = list(texts)
        try:
            if inspect.iscoroutinefunction(self._function):
                answer = await self._function(given)
            else:
                answer = await asyncio.to_thread(self._function, given)
                if inspect.isawaitable(answer):  # an object's, whose call is async
                    answer = await answer
        except ReplicatorError:
            raise
        except ValueError as exc:
            raise Rejected("text-refused", f"{self._path}: {exc}") from exc
        except Exception as exc:  # the user's code, and whatever stands behind it
            message = f"{self._path}: {type(exc).__name__}: {exc}"
            raise Unavailable("embedder-away", message) from exc
        try:
            return [np.asarray(vector, dtype="<f4").tobytes() for vector in answer]
        except (TypeError, ValueError) as exc:
            raise Refused(
                "embedder-broken", f"{self._path} does not answer a list of vectors: {exc}"
            ) from exc
