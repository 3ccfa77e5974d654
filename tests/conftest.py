"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import hypothesis

pytest_plugins = [
    "tests.plugins.broker",
    "tests.plugins.budget",
    "tests.plugins.chroma",
    "tests.plugins.milvus",
    "tests.plugins.postgres",
    "tests.plugins.weaviate",
]

# A machine that is busy is no failure: speed belongs to the benchmarks.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
