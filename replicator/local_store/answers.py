"""
Failures as a server states them: gRPC status and words.

The words matter as much as the status, because clients tell an absent point from an absent
collection, and one bad vector from another, by nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from replicator.connectors.qdrant.wire import Message

log = logging.getLogger(__name__)

Method = Callable[[Message], Awaitable[Message]]
"""Answers one request."""


class Answer(Exception):
    """Ends a call with a status instead of a reply; `retry_after_s` goes with it."""

    def __init__(
        self, status: grpc.StatusCode, words: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s
        self.status = status
        self.words = words


def invalid(words: str) -> Answer:
    """The request is at fault."""
    return Answer(grpc.StatusCode.INVALID_ARGUMENT, words)


def unsupported(what: str) -> Answer:
    """A real server can do it."""
    return Answer(grpc.StatusCode.UNIMPLEMENTED, f"the local store server has no {what}")


def no_collection(name: str) -> Answer:
    """The collection, or alias, is not there."""
    return Answer(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")


def already_exists(name: str) -> Answer:
    """A collection of this name is there."""
    return Answer(
        grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!"
    )


def of_engine(error: Exception) -> Answer:
    """What the engine says, as the server around it would pass it on."""
    words = str(error)
    if words.startswith("No point with id"):
        return Answer(grpc.StatusCode.NOT_FOUND, f"Not found: {words} found")
    if "dimension error" in words or "vector name error" in words or "Wrong usage" in words:
        return invalid(f"Wrong input: {words}")
    if isinstance(error, ValueError):
        return invalid(words)
    return Answer(grpc.StatusCode.INTERNAL, f"Service internal error: {words}")


def behaviour(method: Method) -> Callable[[Message, Any], Awaitable[Message]]:
    """A method as grpc calls it."""

    async def answer(request: Message, context: grpc.aio.ServicerContext) -> Message:
        try:
            return await method(request)
        except Answer as exc:
            trailing = (
                () if exc.retry_after_s is None else (("retry-after", str(exc.retry_after_s)),)
            )
            await context.abort(exc.status, exc.words, trailing)
        except Exception as exc:
            log.exception("call failed")
            await context.abort(
                grpc.StatusCode.INTERNAL, f"Service internal error: {type(exc).__name__}: {exc}"
            )

    return answer


async def not_here(_: Message, context: grpc.aio.ServicerContext) -> None:
    """Answer a method that the server lacks."""
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, "the local store server does not have this method"
    )
