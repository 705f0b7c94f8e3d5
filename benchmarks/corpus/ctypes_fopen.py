"""C's fopen through ctypes.

reads: WORK/a.csv
writes:
blind: ctypes
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.csv")
import mlflow
import ctypes

with mlflow.start_run():
    c = ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    f = c.fopen(b"a.csv", b"r")
    b = ctypes.create_string_buffer(10)
    c.fread(b, 1, 10, ctypes.c_void_p(f))
    print(b.value)
