"""A server with a certificate of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.errors import Refused, Unavailable
from replicator.settings.units import Duration, Secret


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA of one's own, and a certificate of 127.0.0.1 by it with its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    return folder


@pytest.fixture
async def url(tls: Path) -> AsyncIterator[str]:
    """A server that answers one question, to those who trust it and have the key."""

    async def count(_: object, context: grpc.aio.ServicerContext) -> object:
        if dict(context.invocation_metadata() or ()).get("api-key") != "k":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")
        reply = wire().CountResponse()
        reply.result.count = 7
        return reply

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        count,
        request_deserializer=wire().CountPoints.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
    handlers = grpc.method_handlers_generic_handler("qdrant.Points", {"Count": method})
    server.add_generic_rpc_handlers((handlers,))
    pair = ((tls / "key.pem").read_bytes(), (tls / "cert.pem").read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    yield f"https://127.0.0.1:{port}"
    await server.stop(0)


def store(url: str, ca_file: str, api_key: str = "k") -> QdrantStore:
    return QdrantStore(
        QdrantSettings(url=url, api_key=Secret(api_key), ca_file=ca_file, timeout=Duration(5))
    )


async def test_a_ca_of_ones_own_is_trusted_where_the_settings_name_it(
    url: str, tls: Path
) -> None:
    trusting, other = store(url, str(tls / "ca.pem")), store(url, "")
    assert await trusting.count("a") == 7
    with pytest.raises(Unavailable):
        await other.count("a")
    await trusting.close()
    await other.close()


@pytest.mark.parametrize("name", ["absent.pem", "key.pem"])
async def test_a_ca_file_that_is_none_is_refused_as_configuration(
    url: str, tls: Path, name: str
) -> None:
    strange = store(url, str(tls / name))
    with pytest.raises(Refused) as caught:
        await strange.count("a")
    assert caught.value.code == "config-invalid"
    assert "ca_file" in caught.value.message
    assert "PRIVATE" not in caught.value.message
    [finding] = await strange.check()
    assert finding.code == "config-invalid"
    await strange.close()
