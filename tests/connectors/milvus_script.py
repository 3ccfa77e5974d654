"""A server that speaks Milvus's protocol and says what a test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.kind import MilvusSettings
from replicator.connectors.milvus.store import MilvusStore
from replicator.connectors.milvus.wire import SERVICE, wire
from replicator.settings.units import Duration, Secret
from replicator.testing.store_conformance import floats

Answers = dict[str, Callable[[Any], Any]]
TOKEN = "root:the-word"


class Denied(Exception):
    """A status of gRPC instead of a reply."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class Script:
    """Answers by method, and the requests that came."""

    def __init__(self) -> None:
        self.answers: Answers = {
            "DescribeCollection": lambda _: described(),
            "ShowPartitions": lambda _: wire().ShowPartitionsResponse(
                partition_names=["_default"]
            ),
            "DescribeIndex": lambda _: wire().DescribeIndexResponse(),
            "GetVersion": lambda _: wire().GetVersionResponse(version="v2.6.6"),
        }
        self.requests: list[tuple[str, Any]] = []

    def asked(self, method: str) -> list[Any]:
        """The requests of a method."""
        return [request for name, request in self.requests if name == method]

    def handler(self, method: str) -> Any:
        request_class, reply_class = wire().methods()[method]

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self.requests.append((method, request))
            try:
                return self.answers[method](request)
            except Denied as denied:
                await context.abort(denied.code, denied.words)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request_class.FromString,
            response_serializer=reply_class.SerializeToString,
        )


@asynccontextmanager
async def scripted(**more: Any) -> AsyncIterator[tuple[Script, MilvusStore]]:
    """The script of a server, and a store at it."""
    script = Script()
    server = grpc.aio.server()
    handlers = {method: script.handler(method) for method in wire().methods()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    given: dict[str, Any] = {"timeout": Duration(10), "token": Secret(TOKEN)} | more
    store = MilvusStore(MilvusSettings(uri=f"http://127.0.0.1:{port}", **given))
    try:
        yield script, store
    finally:
        await store.close()
        await server.stop(None)


def described(**more: Any) -> Any:
    """A collection of integers, a vector of two and a payload."""
    told: dict[str, Any] = {"collection_name": "docs", "collectionID": 7} | more
    reply = wire().DescribeCollectionResponse(**told)
    reply.schema.fields.add(name="id", is_primary_key=True, data_type=int(Type.INT64))
    vector = reply.schema.fields.add(name="vector", data_type=int(Type.FLOAT_VECTOR))
    vector.type_params.add(key="dim", value="2")
    reply.schema.fields.add(name="payload", data_type=int(Type.JSON))
    return reply


def rows(keys: Sequence[int], session_ts: int = 0) -> Any:
    """The answer of a query: these keys, each with a vector and no payload."""
    reply = wire().QueryResults(session_ts=session_ts)
    key = reply.fields_data.add(field_name="id", type=int(Type.INT64))
    key.scalars.long_data.data.extend(keys)
    vector = reply.fields_data.add(field_name="vector", type=int(Type.FLOAT_VECTOR))
    vector.vectors.dim = 2
    vector.vectors.float_vector.data = floats(1, 2) * len(keys)
    payload = reply.fields_data.add(field_name="payload", type=int(Type.JSON))
    payload.scalars.json_data.data.extend([b"{}"] * len(keys))
    return reply


def status(code: int, reason: str = "no", **more: Any) -> Any:
    """A refusal."""
    return wire().Status(code=code, reason=reason, **more)
