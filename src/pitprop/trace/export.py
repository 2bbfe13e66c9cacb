"""A trace as one Parquet file in long format, for every other tool that reads tables."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pitprop._errors import PitpropError
from pitprop.trace import provenance, schema
from pitprop.trace.reader import Reader

_GROUP_VALUES = 1 << 18  # per row group; bounds the memory


def export_parquet(folder: str | Path, path: str | Path) -> None:
    """Writes the trace in `folder` to `path`, columns (step int64, indicator, site, value float32), in step order.

    What was not measured has no line; NaN is NaN, never null. The run's info and the schema version are the file's
    metadata `pitprop.info` (JSON) and `pitprop.schema_version`. An existing file is replaced in one go, at the end.

    Raises:
        PitpropError: pyarrow is missing, the trace cannot be read, or `path` cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PitpropError(
            "Parquet export needs pyarrow, which is not installed", do="pip install 'pitprop[parquet]'"
        ) from error
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with Reader(folder) as reader:
        label = pa.dictionary(pa.int32(), pa.string())
        columns = pa.schema(
            [("step", pa.int64()), ("indicator", label), ("site", label), ("value", pa.float32())],
            metadata={
                "pitprop.info": provenance.to_json(reader.info),
                "pitprop.schema_version": json.dumps(len(schema.MIGRATIONS)),
            },
        )
        try:
            with pq.ParquetWriter(partial, columns, compression="zstd") as writer:
                for steps, indicators, sites, values in _groups(reader):
                    labels = [pa.array(names, pa.string()).dictionary_encode() for names in (indicators, sites)]
                    writer.write_table(pa.table([pa.array(steps), *labels, pa.array(values)], schema=columns))
            os.replace(partial, path)
        except OSError as error:
            raise PitpropError(f"cannot write {path}: {error}", do="choose another path") from error
        finally:
            partial.unlink(missing_ok=True)


def _groups(reader: Reader) -> Iterator[tuple[list[int], list[str], list[str], np.ndarray]]:
    steps, indicators, sites, vectors = [], [], [], []
    for step, indicator, at, vector in reader.measurements():
        steps += [step] * len(at)
        indicators += [indicator] * len(at)
        sites += at
        vectors.append(vector)
        if len(steps) >= _GROUP_VALUES:
            yield steps, indicators, sites, np.concatenate(vectors)
            steps, indicators, sites, vectors = [], [], [], []
    if steps:
        yield steps, indicators, sites, np.concatenate(vectors)
