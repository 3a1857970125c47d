"""What travels between the operators: a unit as one row of a data set, its rows in one cell.

The rows are an Arrow IPC stream in one cell, so that a unit cannot be split, merged or half retried, whatever
Ray fuses or bundles.
"""

import pyarrow as pa


def pack(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """The table of an Arrow IPC stream, without copying."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()
