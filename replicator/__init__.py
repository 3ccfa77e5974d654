"""Move a live vector database to another one without downtime and without losing a change."""

__version__ = "0.1.0"
