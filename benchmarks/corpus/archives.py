"""Members of archives.

reads: DATA/cancer.zip DATA/cancer.tar.gz DATA/cancer.csv.gz WORK/x.bz2 WORK/x.xz
writes: WORK/o.zip WORK/o.gz
"""

import os

import bz2
import lzma

bz2.open("x.bz2", "wt").write("a")
lzma.open("x.xz", "wt").write("a")
import mlflow
import zipfile
import tarfile
import gzip
import pandas as pd

data = os.environ["DATA"]
with mlflow.start_run():
    with zipfile.ZipFile(f"{data}/cancer.zip") as z:
        z.read("cancer.csv")
    pd.read_csv(f"{data}/cancer.zip")
    with tarfile.open(f"{data}/cancer.tar.gz") as t:
        t.extractfile("cancer.csv").read()
    pd.read_csv(f"{data}/cancer.csv.gz")
    bz2.open("x.bz2").read()
    lzma.open("x.xz").read()
    with zipfile.ZipFile("o.zip", "w") as z:
        z.writestr("a", "b")
    with gzip.open("o.gz", "wt") as g:
        g.write("x")
