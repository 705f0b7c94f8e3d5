"""pyarrow's own file systems and files.

reads: WORK/x.bin WORK/y.bin
writes: WORK/o.bin
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("x.bin")
make("y.bin")
import pyarrow.fs
import mlflow

with mlflow.start_run():
    fs = pyarrow.fs.LocalFileSystem()
    with fs.open_input_file("x.bin") as f:
        f.read()
    with fs.open_input_stream("y.bin") as f:
        f.read()
    with fs.open_output_stream("o.bin") as f:
        f.write(b"x")
