"""The Kafka feed. Importing it imports aiokafka; `replicator.feeds` alone does not."""

from replicator.feeds.kafka.connection import dead_letter_topic
from replicator.feeds.kafka.dead_letters import KafkaDeadLetters
from replicator.feeds.kafka.event_log import KafkaEventLog
from replicator.feeds.kafka.feed import KafkaFeed

__all__ = ["KafkaDeadLetters", "KafkaEventLog", "KafkaFeed", "dead_letter_topic"]
