"""The vectors API of one index: what each operation takes, refuses and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from replicator.testing.pinecone.faults import Faults
from replicator.testing.pinecone.filters import parsed
from replicator.testing.pinecone.index import Index, Namespace, Update, page
from replicator.testing.pinecone.limits import Limits
from replicator.testing.pinecone.records import (
    Record,
    Refusal,
    Sparse,
    bad,
    checked_id,
    checked_metadata,
    checked_namespace,
    checked_record,
    checked_sparse,
    checked_values,
)
from replicator.testing.pinecone.search import added, best, dense_score, sparse_score

DEFAULT = "__default__"
"""How the namespace without a name is listed."""


class Asked(msgspec.Struct, frozen=True):
    """One request. `body` is what its JSON says, and `body_bytes` how long that was."""

    query: Mapping[str, list[str]]
    path: Mapping[str, str]
    body: Any
    body_bytes: int

    def parameter(self, name: str) -> str | None:
        """One of the address, as it stands there first."""
        return next(iter(self.query.get(name, ())), None)


class Reply(msgspec.Struct, frozen=True):
    """What an operation answers, and its headers."""

    body: dict[str, Any]
    headers: dict[str, str] = {}


Operation = Callable[[Asked], Reply]


class Vectors:
    """Of one index. Every operation raises Refusal."""

    def __init__(self, index: Index, limits: Limits, faults: Faults) -> None:
        self._index = index
        self._limits = limits
        self._faults = faults

    def routes(self) -> dict[tuple[str, str], tuple[str, Operation]]:
        """Method and path → the operation's name, as faults know it, and what does it."""
        return {
            ("POST", "/vectors/upsert"): ("upsert", self.upsert),
            ("POST", "/vectors/update"): ("update", self.update),
            ("POST", "/vectors/delete"): ("delete", self.delete),
            ("GET", "/vectors/fetch"): ("fetch", self.fetch),
            ("POST", "/vectors/fetch_by_metadata"): ("fetch", self.fetch_by_metadata),
            ("GET", "/vectors/list"): ("list", self.list_ids),
            ("POST", "/query"): ("query", self.query),
            ("POST", "/describe_index_stats"): ("stats", self.stats),
            ("GET", "/namespaces"): ("namespaces", self.list_namespaces),
            ("POST", "/namespaces"): ("namespaces", self.create_namespace),
            ("GET", "/namespaces/{name}"): ("namespaces", self.describe_namespace),
            ("DELETE", "/namespaces/{name}"): ("delete", self.delete_namespace),
        }

    # -- writes -----------------------------------------------------------------------------

    def upsert(self, asked: Asked) -> Reply:
        """All of the request or nothing: one bad record refuses the others with it."""
        namespace = self._namespace(asked.body.get("namespace"))
        given = asked.body.get("vectors")
        if asked.body_bytes > self._limits.upsert_bytes:
            raise bad(
                f"Request size {asked.body_bytes} exceeds the maximum supported size of"
                f" {self._limits.upsert_bytes} bytes"
            )
        if not isinstance(given, list) or not given:
            raise bad("No vectors provided for upsert")
        if len(given) > self._limits.upsert_records:
            raise bad(f"Cannot upsert more than {self._limits.upsert_records} vectors at once")
        self._faults.admit("upsert", namespace, len(given))
        records = [checked_record(each, self._index.dimension, self._limits) for each in given]
        lsn = self._index.upsert(namespace, records)
        return Reply({"upsertedCount": len(given)}, _committed(lsn))

    def update(self, asked: Asked) -> Reply:
        """By id, or metadata alone by filter."""
        namespace = self._namespace(asked.body.get("namespace"))
        update = self._update_of(asked.body)
        if "filter" in asked.body:
            if update.values is not None or update.sparse is not None:
                raise bad("An update by filter sets metadata alone")
            test = parsed(asked.body["filter"])
            if asked.body.get("dryRun"):
                shown = self._index.shown(namespace).values()
                met = sum(test(record.metadata or {}) for record in shown)
                return Reply({"matchedRecords": met})
            self._faults.admit("update", namespace)
            lsn, met = self._index.update_where(namespace, test, update)
            return Reply({"matchedRecords": met}, _committed(lsn))
        vector_id = checked_id(asked.body.get("id"), self._limits)
        self._faults.admit("update", namespace)
        return Reply({}, _committed(self._index.update(namespace, vector_id, update)))

    def _update_of(self, body: Mapping[str, Any]) -> Update:
        values, sparse = body.get("values"), body.get("sparseValues")
        if values is not None and self._index.dimension is None:
            raise bad("Index is sparse, and the update has dense values")
        return Update(
            values=None
            if values is None
            else checked_values(values, self._index.dimension or 0),
            sparse=None if sparse is None else checked_sparse(sparse, self._limits),
            metadata=checked_metadata(body.get("setMetadata"), self._limits),
        )

    def delete(self, asked: Asked) -> Reply:
        """By exactly one of ids, filter and all."""
        namespace = self._namespace(asked.body.get("namespace"))
        ids = asked.body.get("ids") or []
        ways = [bool(ids), bool(asked.body.get("deleteAll")), "filter" in asked.body]
        if sum(ways) != 1:
            raise bad("Must provide exactly one of: ids, delete_all, filter")
        if ids:
            if len(ids) > self._limits.delete_ids:
                raise bad(f"Cannot delete more than {self._limits.delete_ids} vectors at once")
            checked = [checked_id(each, self._limits) for each in ids]
            self._faults.admit("delete", namespace, len(ids))
            lsn = self._index.delete(namespace, checked)
        else:
            test = parsed(asked.body["filter"]) if "filter" in asked.body else None
            self._faults.admit("delete", namespace)
            lsn = self._index.delete_where(namespace, test)
        return Reply({}, _committed(lsn))

    # -- reads: fetches and lists say no number ------------------------------------------------

    def fetch(self, asked: Asked) -> Reply:
        """An id that is not there is not in the answer."""
        namespace = self._namespace(asked.parameter("namespace"))
        ids = asked.query.get("ids", [])
        if not ids:
            raise bad("No IDs provided for fetch query.")
        if len(ids) > self._limits.fetch_ids:
            raise bad(f"Cannot fetch more than {self._limits.fetch_ids} vectors at once")
        for each in ids:
            checked_id(each, self._limits)
        self._faults.admit("fetch", namespace)
        shown = self._index.shown(namespace)
        found = [shown[each] for each in ids if each in shown]
        return Reply({"vectors": _by_id(found), "namespace": namespace, **_units(found)})

    def fetch_by_metadata(self, asked: Asked) -> Reply:
        """Pages in the order of ids; there is no filter that matches every record."""
        namespace = self._namespace(asked.body.get("namespace"))
        given = asked.body.get("filter")
        if not given:
            raise bad("filter must not be empty")
        test = parsed(given)
        limit = asked.body.get("limit", 100)
        if not 1 <= limit <= self._limits.fetch_by_metadata:
            raise bad(f"limit must be between 1 and {self._limits.fetch_by_metadata}")
        self._faults.admit("fetch", namespace)
        shown = self._index.shown(namespace)
        met = [each.id for each in shown.values() if test(each.metadata or {})]
        ids, token = page(met, limit, asked.body.get("paginationToken"))
        found = [shown[each] for each in ids]
        body = {"vectors": _by_id(found), "namespace": namespace, **_units(found)}
        return Reply(body | _next(token))

    def list_ids(self, asked: Asked) -> Reply:
        """Ids alone, by prefix, at most 100 a page."""
        namespace = self._namespace(asked.parameter("namespace"))
        limit = self._limit(asked, self._limits.list_ids)
        self._faults.admit("list", namespace)
        prefix = asked.parameter("prefix") or ""
        token = asked.parameter("paginationToken")
        ids, following = self._index.page_of_ids(namespace, prefix, limit, token)
        body = {"vectors": [{"id": each} for each in ids], "namespace": namespace}
        return Reply(body | _units(ids) | _next(following))

    def query(self, asked: Asked) -> Reply:
        """By a vector, or by that of a record; says the number of the last write it saw."""
        body = asked.body
        namespace = self._namespace(body.get("namespace"))
        values, metadata = bool(body.get("includeValues")), bool(body.get("includeMetadata"))
        most = self._limits.top_k_with_values if values or metadata else self._limits.top_k
        top_k = body.get("topK", 0)
        if not 1 <= top_k <= most:
            raise bad(f"topK must be between 1 and {most}")
        self._faults.admit("query", namespace)
        shown = self._index.shown(namespace)
        dense, sparse = self._asked_vectors(body, shown)
        score = None if dense is None else dense_score(self._index.metric, dense)
        if sparse is not None:
            if score is not None and self._index.metric != "dotproduct":
                raise bad(
                    "Index configuration does not support sparse values - only dotproduct does"
                )
            score = (
                sparse_score(sparse) if score is None else added(score, sparse_score(sparse))
            )
        assert score is not None
        test = parsed(body.get("filter") or {})
        found = best(
            (record for record in shown.values() if test(record.metadata or {})),
            score,
            top_k,
            ascending=self._index.metric == "euclidean",
        )
        matches = [
            {**record.shown(values=values, metadata=metadata), "score": each}
            for each, record in found
        ]
        reconciled = self._index.reconciled(namespace)
        return Reply(
            {"matches": matches, "namespace": namespace, **_units(found)},
            {"x-pinecone-lsn-reconciled": str(reconciled)},
        )

    def _asked_vectors(
        self, body: Mapping[str, Any], shown: Mapping[str, Record]
    ) -> tuple[list[float] | None, Sparse | None]:
        if "id" in body:
            record = shown.get(checked_id(body["id"], self._limits))
            if record is None:
                raise Refusal(404, 5, f"Vector not found: {body['id']}")  # assumed
            return record.values or None, record.sparse
        dense, sparse = body.get("vector"), body.get("sparseVector")
        if dense is None and sparse is None:
            raise bad("Must provide a vector, a sparse vector or an id")
        if dense is not None and self._index.dimension is None:
            raise bad("Index is sparse, and the query has dense values")
        return (
            None if dense is None else checked_values(dense, self._index.dimension or 0),
            None if sparse is None else checked_sparse(sparse, self._limits),
        )

    def stats(self, asked: Asked) -> Reply:
        """Counts of what shows; the namespace without a name is `__default__`."""
        if (asked.body or {}).get("filter"):
            raise bad("Serverless indexes do not support describing index stats with filter")
        self._faults.admit("stats", "")
        counts = {name: len(self._index.shown(name)) for name in self._index.namespaces}
        body: dict[str, Any] = {
            "namespaces": {
                name or DEFAULT: {"vectorCount": count} for name, count in counts.items()
            },
            "totalVectorCount": sum(counts.values()),
            "indexFullness": 0.0,
            "metric": self._index.metric,
            "vectorType": "sparse" if self._index.dimension is None else "dense",
        }
        if self._index.dimension is not None:
            body["dimension"] = self._index.dimension
        return Reply(body)

    # -- namespaces -------------------------------------------------------------------------

    def list_namespaces(self, asked: Asked) -> Reply:
        """In the order of their names, at most 100 a page. Counts are texts, as protobuf's
        JSON has it.
        """
        limit = self._limit(asked, self._limits.list_namespaces)
        prefix = asked.parameter("prefix") or ""
        listed = [name or DEFAULT for name in self._index.namespaces]
        names = [name for name in listed if name.startswith(prefix)]
        found, token = page(names, limit, asked.parameter("paginationToken"))
        body = {"namespaces": [self._described(name) for name in found]}
        return Reply(body | {"total_count": len(names)} | _next(token))

    def create_namespace(self, asked: Asked) -> Reply:
        """Without records. One that is there is a conflict, and the default one always is (the
        client's own words on `create_namespace`, 10.2).
        """
        name = self._namespace(asked.body.get("name"))
        if not name or name in self._index.namespaces:
            raise Refusal(409, 6, f"Namespace {name or DEFAULT} already exists")
        self._index.namespaces[name] = Namespace()
        return Reply(self._described(name))

    def describe_namespace(self, asked: Asked) -> Reply:
        """One of them."""
        name = self._existing(asked)
        return Reply(self._described(name or DEFAULT))

    def delete_namespace(self, asked: Asked) -> Reply:
        """With all that it holds, at once."""
        name = self._existing(asked)
        self._faults.admit("delete", name)
        del self._index.namespaces[name]
        return Reply({})

    def _described(self, name: str) -> dict[str, Any]:
        shown = self._index.shown("" if name == DEFAULT else name)
        return {"name": name, "record_count": str(len(shown))}

    def _existing(self, asked: Asked) -> str:
        name = self._namespace(asked.path["name"])
        if name not in self._index.namespaces:
            raise Refusal(404, 5, "Namespace not found")
        return name

    # -- parts ------------------------------------------------------------------------------

    def _namespace(self, given: object) -> str:
        return checked_namespace(given, self._limits)

    def _limit(self, asked: Asked, most: int) -> int:
        given = asked.parameter("limit") or str(most)
        if not given.isdecimal() or not 1 <= int(given) <= most:
            raise bad(f"limit must be between 1 and {most}")
        return int(given)


def _by_id(found: list[Record]) -> dict[str, Any]:
    return {each.id: each.shown() for each in found}


def _committed(lsn: int) -> dict[str, str]:
    return {"x-pinecone-lsn-committed": str(lsn)}


def _units(found: list[Any]) -> dict[str, Any]:
    return {"usage": {"readUnits": max(1, len(found) // 10)}}


def _next(token: str | None) -> dict[str, Any]:
    return {} if token is None else {"pagination": {"next": token}}
