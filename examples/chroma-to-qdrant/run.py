"""
From Chroma to Qdrant, from the first vector to the runbook, in one command.

    make example
    python examples/chroma-to-qdrant/run.py --points 10000

It starts a Chroma server and a local Qdrant-compatible one (CHROMA_URL and QDRANT_URL name
others, Qdrant's by its gRPC port), fills a collection of Chroma, moves it by `replicator
migrate`, and then judges the outcome itself: that part knows nothing of the replicator, and
asks both stores by their own clients.

All that it makes lies in one directory, with `runbook.md` among it. Exits with 1 when something
is missing, differs, or is not found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

import chromadb
import numpy as np
from qdrant_client import QdrantClient

DIMENSION = 384
TOPICS = 40
QUERIES = 10
K = 10
SAMPLES = 200
RECALL_MIN = 0.95
BATCH = 1000
START_S = 120.0
NAMESPACE = UUID("92eb0a74-d6f3-5e60-919c-49275e843727")
"""Qdrant takes integers and UUIDs. Any other id becomes the UUIDv5 of `<collection>/<id>`, each
part percent-encoded, in this namespace; what it was stands in the payload, as `_source_id`."""

Vectors = Any  # np.ndarray of float32, a row a vector


@dataclass
class Corpus:
    """What is in Chroma, as whoever wrote it knows it."""

    ids: list[str]
    vectors: Vectors
    documents: list[str]
    metadatas: list[dict[str, Any]]
    queries: Vectors
    """Vectors near the stored ones, and none of them."""


@dataclass
class Outcome:
    """What was found out, for the terminal and the runbook."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)

    def found(self, what: str, figure: str, *, good: bool = True) -> None:
        """Note a figure, and whether it is as it must be."""
        self.figures.append((what, figure))
        print(f"{'  ' if good else 'NO'} {what}: {figure}")
        if not good:
            self.problems.append(f"{what}: {figure}")


def make_corpus(points: int, seed: int) -> Corpus:
    """Documents of some topics, with vectors of length one around those of their topics."""
    dice, choice = np.random.default_rng(seed), random.Random(seed)
    centres = dice.normal(size=(TOPICS, DIMENSION))
    topics = dice.integers(TOPICS, size=points)
    near = dice.integers(TOPICS, size=QUERIES)
    titles = ("Über Vögel", "花の名前", "On birds", "Des oiseaux 🐦", "Περί ορνίθων")
    return Corpus(
        ids=[f"doc-{number:06}" for number in range(points)],
        vectors=_of_length_one(centres[topics] + dice.normal(size=(points, DIMENSION))),
        documents=[f"Text {n} of topic {topic}" for n, topic in enumerate(topics)],
        metadatas=[
            {
                "title": choice.choice(titles),
                "topic": f"topic {topic}",
                "year": choice.randrange(1900, 2027),
                "rating": round(choice.uniform(0, 5), 2),
                "draft": choice.random() < 0.1,
            }
            for topic in topics
        ],
        queries=_of_length_one(centres[near] + dice.normal(size=(QUERIES, DIMENSION))),
    )


def _of_length_one(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fill(chroma: Any, collection: str, corpus: Corpus) -> Any:
    """Make the collection as an application of Chroma would."""
    made = chroma.create_collection(
        collection, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    for start in range(0, len(corpus.ids), BATCH):
        part = slice(start, start + BATCH)
        made.add(
            ids=corpus.ids[part],
            embeddings=corpus.vectors[part],
            documents=corpus.documents[part],
            metadatas=corpus.metadatas[part],
        )
    return made


# -- the judgement: each store by its own client


def qdrant_id(collection: str, chroma_id: str) -> str:
    """Where a record of Chroma lies in Qdrant; an application computes it in the same way."""
    key = f"{quote(collection, safe='-._~')}/{quote(chroma_id, safe='-._~')}"
    return str(uuid5(NAMESPACE, key))


def compare_counts(source: Any, qdrant: QdrantClient, collection: str, told: Outcome) -> None:
    """Both stores hold as many."""
    before, after = source.count(), qdrant.count(collection, exact=True).count
    told.found("records in Chroma", f"{before:,}")
    told.found("points in Qdrant", f"{after:,}", good=after == before)


def compare_samples(
    source: Any, qdrant: QdrantClient, collection: str, corpus: Corpus, told: Outcome
) -> None:
    """Some records at random, field by field and component by component."""
    ids = random.Random(0).sample(corpus.ids, min(SAMPLES, len(corpus.ids)))
    there = source.get(ids=ids, include=["embeddings", "documents", "metadatas"])
    of = {name: qdrant_id(collection, name) for name in ids}
    points = qdrant.retrieve(
        collection, list(of.values()), with_payload=True, with_vectors=True
    )
    here = {str(point.id): point for point in points}
    equal = 0
    rows = zip(
        there["ids"], there["embeddings"], there["documents"], there["metadatas"], strict=True
    )
    for name, vector, document, metadata in rows:
        point = here.get(of[name])
        wanted = {**metadata, "document": document, "_source_id": name}
        same = (
            point is not None
            and point.payload == wanted
            # Qdrant keeps vectors at length one under cosine, which rounds their last place.
            and np.allclose(np.asarray(point.vector), vector, rtol=0, atol=1e-5)
        )
        equal += same
        if len(told.samples) < 3:
            told.samples.append(
                f"{name} → {of[name]}: {json.dumps(wanted, ensure_ascii=False)},"
                f" vector[:3] {[round(float(x), 4) for x in vector[:3]]}"
                f" {'equal' if same else 'NOT EQUAL'}"
            )
    told.found("samples equal", f"{equal} of {len(ids)}", good=equal == len(ids) > 0)
    for sample in told.samples:
        print(f"     {sample}")


def compare_searches(
    source: Any, qdrant: QdrantClient, collection: str, corpus: Corpus, told: Outcome
) -> None:
    """
    The same questions to both. What is right is computed here from all vectors: of the true
    neighbours, each store must find its share.
    """
    shares: dict[str, list[float]] = {"Chroma": [], "Qdrant": []}
    for query in corpus.queries:
        nearest = np.argsort(-(corpus.vectors @ query))[:K]
        true = {corpus.ids[number] for number in nearest}
        [found] = source.query(query_embeddings=[query], n_results=K, include=[])["ids"]
        shares["Chroma"].append(len(true & set(found)) / len(true))
        answer = qdrant.query_points(collection, query.tolist(), limit=K).points
        names = {str((point.payload or {}).get("_source_id")) for point in answer}
        shares["Qdrant"].append(len(true & names) / len(true))
    for store, each in shares.items():
        mean = sum(each) / len(each)
        told.found(
            f"recall@{K} of {store}, {len(each)} queries",
            f"{mean:.3f}",
            good=store == "Chroma" or mean >= RECALL_MIN,
        )


# -- servers


@contextmanager
def running(command: list[str], log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process for as long as it is needed, its output in a file."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **more})
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until(up: Any, child: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers; raises SystemExit with its log when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            up()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{log} ends with:\n{log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chroma_at(directory: Path, stack: ExitStack) -> tuple[str, str]:
    """`host:port` of Chroma, and how its server was started."""
    if url := os.environ.get("CHROMA_URL", ""):
        return url.removeprefix("http://").rstrip("/"), "# CHROMA_URL"
    port = free_port()
    program = str(Path(sys.executable).with_name("chroma"))
    command = [program, "run", "--path", str(directory / "chroma"), "--port", str(port)]
    log = directory / "chroma.log"
    child = stack.enter_context(
        running(command, log, HOME=str(directory), ANONYMIZED_TELEMETRY="False")
    )
    heartbeat = f"http://127.0.0.1:{port}/api/v2/heartbeat"
    wait_until(lambda: urllib.request.urlopen(heartbeat, timeout=5).close(), child, log)
    return f"127.0.0.1:{port}", shlex.join(["chroma", *command[1:]])


def qdrant_at(directory: Path, stack: ExitStack) -> tuple[str, str]:
    """`host:port` of Qdrant's gRPC, and how its server was started."""
    if url := os.environ.get("QDRANT_URL", ""):
        return url.removeprefix("http://").rstrip("/"), "# QDRANT_URL"
    address = ("127.0.0.1", free_port())
    words = ["local-store", "--path", str(directory / "qdrant")]
    words += ["--listen", f"{address[0]}:{address[1]}"]
    log = directory / "qdrant.log"
    child = stack.enter_context(running([sys.executable, "-m", "replicator", *words], log))
    wait_until(lambda: socket.create_connection(address, timeout=5).close(), child, log)
    return f"{address[0]}:{address[1]}", shlex.join(["replicator", *words])


# -- the whole


def main() -> int:
    """Play it, and return the exit code."""
    options = _options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="chroma-to-qdrant-"))
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    told = Outcome()
    with ExitStack() as stack:
        print("starting Chroma and Qdrant")
        chroma_address, chroma_started = chroma_at(directory, stack)
        qdrant_address, qdrant_started = qdrant_at(directory, stack)
        chroma_host, _, chroma_port = chroma_address.rpartition(":")
        qdrant_host, _, qdrant_port = qdrant_address.rpartition(":")
        chroma = chromadb.HttpClient(host=chroma_host, port=int(chroma_port))
        qdrant = QdrantClient(
            host=qdrant_host,
            grpc_port=int(qdrant_port),
            prefer_grpc=True,
            check_compatibility=False,
            timeout=60,
        )
        stack.callback(qdrant.close)

        print(f"filling the collection {options.collection!r} of Chroma")
        corpus = make_corpus(options.points, options.seed)
        source, took = _timed(lambda: fill(chroma, options.collection, corpus))
        told.found("filled in", f"{took:.1f} s")

        queries = directory / "queries.jsonl"
        queries.write_text(
            "".join(f"{json.dumps({'vector': query.tolist()})}\n" for query in corpus.queries)
        )
        migrate = [
            "migrate",
            f"chroma://{chroma_address}/{quote(options.collection)}",
            f"qdrant://{qdrant_address}/{quote(options.collection)}",
            *("--queries", str(queries), "--min-recall", str(RECALL_MIN)),
            *("--directory", str(directory / "state")),
        ]
        print(f"$ replicator {shlex.join(migrate)}")
        done, took = _timed(lambda: _replicator(migrate))
        print(done.stdout, end="")
        told.found("migrated in", f"{took:.1f} s", good=done.returncode == 0)
        if done.returncode:
            print(done.stderr, end="", file=sys.stderr)
            return 1

        print("comparing, by the stores' own clients")
        compare_counts(source, qdrant, options.collection, told)
        compare_samples(source, qdrant, options.collection, corpus, told)
        compare_searches(source, qdrant, options.collection, corpus, told)
    commands = [chroma_started, qdrant_started, f"replicator {shlex.join(migrate)}"]
    path = directory / "runbook.md"
    path.write_text(runbook(options.collection, commands, done.stdout, told), encoding="utf-8")
    print(f"\nthe runbook is {path}")
    for problem in told.problems:
        print(f"not as it must be: {problem}", file=sys.stderr)
    return 1 if told.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From Chroma to Qdrant, in one command.")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--collection", default="articles", help="its name at both stores")
    parser.add_argument("--seed", type=int, default=1, help="of what is in it")
    parser.add_argument("--directory", type=Path, help="where all is left; a new one if absent")
    options = parser.parse_args()
    if options.points < K:
        parser.error(f"--points: at least {K}")
    return options


def _timed(work: Any) -> tuple[Any, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def _replicator(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "replicator", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def runbook(collection: str, commands: list[str], output: str, told: Outcome) -> str:
    """What was done, what was seen, and what comes next."""
    verdict = "not as it must be" if told.problems else "equal"
    lines = [
        f"# {collection}: from Chroma to Qdrant",
        "",
        f"Done on {time.strftime('%Y-%m-%d %H:%M')}; the stores are {verdict}.",
        "",
        "## What was done",
        "",
        "```",
        *commands,
        "```",
        "",
        "The last one said:",
        "",
        "```text",
        *(line.rstrip() for line in output.splitlines()),
        "```",
        "",
        "## What was seen",
        "",
        "By the stores' own clients, and by a search through all vectors for what is right.",
        "",
        "| what | figure |",
        "| --- | --- |",
        *(f"| {what} | {figure} |" for what, figure in told.figures),
        "",
        "Samples, as Chroma has them and as Qdrant has them:",
        "",
        *(f"- {sample}" for sample in told.samples),
        *(f"- **not as it must be**: {problem}" for problem in told.problems),
        "",
        "## What the application has to know",
        "",
        "- A text cannot be an id of Qdrant. A record of Chroma lies under the UUIDv5 of",
        f"  `{collection}/<id>`, each part percent-encoded, in the namespace `{NAMESPACE}`;",
        "  its own id is the payload field `_source_id`.",
        "- A document is the payload field `document`; metadata are fields of their own names.",
        "- Under cosine Qdrant keeps vectors at length one.",
        "",
        "## What comes next",
        "",
        "What was written to Chroma since then is not in Qdrant. Where writes can pause, pause",
        "them, run the command again with `--wipe-target`, and move the application.",
        "",
        "Where they cannot, the application emits an event for each of its changes. A daemon",
        "copies, follows, compares and cuts over, with a pause of a second and a way back:",
        "",
        "```",
        "replicator init --source chroma --target qdrant --feed changelog"
        f" --collection {shlex.quote(collection)}",
        "replicator check",
        "replicator run",
        "replicator verify",
        "replicator cutover --dry-run",
        "replicator cutover",
        "replicator revert      # the way back, without loss",
        "replicator complete    # or stay",
        "```",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
