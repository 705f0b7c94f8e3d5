"""Arrow's own file objects: memory maps, streams and plain files.

needs: pyarrow
reads: DATA/cancer.arrow DATA/cancer.csv DATA/cancer.feather
writes: WORK/out.arrow WORK/copy.csv
blind: pyarrow.OSFile
"""

import os

import mlflow
import pyarrow as pa

data = os.environ["DATA"]
with mlflow.start_run():
    with pa.memory_map(f"{data}/cancer.arrow") as source:
        table = pa.ipc.open_file(source).read_all()
    with pa.input_stream(f"{data}/cancer.csv") as stream:
        text = stream.read()
    with pa.OSFile(f"{data}/cancer.feather") as file:
        size = file.size()
    with pa.OSFile("out.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.output_stream("copy.csv") as stream:
        stream.write(text)
    mlflow.log_metric("rows", len(table) + size)
