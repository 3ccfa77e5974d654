from __future__ import annotations

import pytest

from replicator.testing.feed_conformance import FeedConformance


@pytest.mark.kafka
class TestConformance(FeedConformance):
    """On a topic of three partitions; the fixtures are those of the folder."""
