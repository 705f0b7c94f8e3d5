"""A memory-mapped IPC file, batch by batch, and a new one.

reads: DATA/cancer.arrow
writes: WORK/half.arrow
blind: pyarrow.OSFile
"""

import os

import mlflow
import pyarrow as pa

with mlflow.start_run():
    with pa.memory_map(os.path.join(os.environ["DATA"], "cancer.arrow"), "r") as source:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    table = pa.Table.from_batches(batches)
    with pa.OSFile("half.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.slice(0, len(table) // 2))
