"""A function of the user's: what it may be, what it may raise, and what it may answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from replicator.embedding.function import FunctionEmbedder
from replicator.errors import Refused, Rejected, Unavailable

MODELS = """
import array, threading
import numpy as np

threads = []

def plain(texts):
    threads.append(threading.current_thread())
    return [[float(len(text)), 1.0] for text in texts]

async def asynchronous(texts):
    threads.append(threading.current_thread())
    return np.array([[len(text), 1] for text in texts], dtype="float64")

class Client:
    async def __call__(self, texts):
        return [array.array("f", [len(text), 1.0]) for text in texts]

client = Client()

def too_long(texts):
    raise ValueError("more than 512 tokens")

def away(texts):
    raise ConnectionError("no route to host")

def words(texts):
    return ["a", "b"]

def nothing(texts):
    return None

number = 7
"""


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "some_models.py").write_text(MODELS)
    (tmp_path / "broken_models.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("some_models", "broken_models"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["plain", "asynchronous", "client"])
async def test_a_function_may_be_async_or_not_and_answer_lists_or_arrays(name: str) -> None:
    embedder = FunctionEmbedder.load(f"some_models:{name}")
    expected = [np.array([n, 1], "<f4").tobytes() for n in (2, 3)]
    assert await embedder.embed(("ab", "abc")) == expected
    threads = sys.modules["some_models"].threads
    if name == "plain":
        assert threads == [threads[0]]
        assert threads[0] is not threading.current_thread(), "it would stop the loop"
    if name == "asynchronous":
        assert threads == [threading.current_thread()]


@pytest.mark.parametrize(
    ("name", "kind", "code", "says"),
    [
        ("too_long", Rejected, "text-refused", "more than 512 tokens"),
        ("away", Unavailable, "embedder-away", "ConnectionError: no route to host"),
        ("words", Refused, "embedder-broken", "does not answer a list of vectors"),
        ("nothing", Refused, "embedder-broken", "does not answer a list of vectors"),
    ],
)
async def test_what_it_raises_decides(
    name: str, kind: type[Exception], code: str, says: str
) -> None:
    with pytest.raises(kind) as caught:
        await FunctionEmbedder.load(f"some_models:{name}").embed(["a", "b"])
    assert getattr(caught.value, "code", None) == code
    assert f"some_models:{name}" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_models:embed", "No module named 'no_such_models'"),
        ("broken_models:embed", "a_package_that_is_not_there"),
        ("some_models:embd", "has no attribute 'embd'"),
        ("some_models:number", "is no function"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_name(path: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        FunctionEmbedder.load(path)
    assert caught.value.code == "embedder-broken"
    assert path in caught.value.message
