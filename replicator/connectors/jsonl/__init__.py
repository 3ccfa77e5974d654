"""JSONL files as a store."""
