"""mmap, memmap, read and write.

reads: WORK/a.bin WORK/b.bin WORK/c.bin
writes: WORK/c.bin WORK/d.bin
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


for n in "abc":
    make(f"{n}.bin", "0123456789abcdef")
import mlflow
import mmap
import numpy as np

with mlflow.start_run():
    with open("a.bin", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        m[:]
    np.memmap("b.bin", mode="r")[:].sum()
    w = np.memmap("c.bin", mode="r+")
    w[0] = 1
    w.flush()
    w = np.memmap("d.bin", mode="w+", shape=(10,))
    w[0] = 1
    w.flush()
