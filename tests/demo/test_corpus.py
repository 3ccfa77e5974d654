from __future__ import annotations

import numpy as np

from replicator.demo.corpus import documents
from replicator.demo.embedder import DIMENSION, embed


def test_this_python_has_enough_documents_and_two_looks_see_the_same() -> None:
    first = documents(1500)
    assert len(first) == 1500
    assert first == documents(1500)
    assert {document.kind for document in first} == {"module", "class", "function"}
    assert {document.private for document in first} == {True, False}


def test_texts_that_share_words_lie_closer_than_texts_that_do_not() -> None:
    close = embed("return the absolute value of a number")
    near = embed("return the absolute path of a file")
    far = embed("parse every header out of this message")
    assert close @ near > close @ far + 0.2


def test_every_text_has_a_direction_of_length_one_even_without_words() -> None:
    for text in ("", "…", "a text", "one two one two"):
        vector = embed(text)
        assert vector.shape == (DIMENSION,)
        assert vector.dtype == np.dtype("<f4")
        assert np.isclose(np.linalg.norm(vector), 1.0)
