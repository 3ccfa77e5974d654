"""Parquet files as a store."""
