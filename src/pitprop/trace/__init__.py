"""The record of a run on disk: append-only, crash-safe, NaN-safe, readable while written. See `docs/trace.md`."""

from pitprop.trace.export import export_parquet
from pitprop.trace.provenance import collect
from pitprop.trace.reader import Reader
from pitprop.trace.writer import Writer

__all__ = ["Reader", "Writer", "collect", "export_parquet"]
