"""Files that are copied, moved, unpacked and replaced.

reads: DATA/cancer.csv DATA/cancer.tar.gz DATA/pieces/*.csv
writes: WORK/copy.csv WORK/unpacked/cancer.csv WORK/folder/*.csv WORK/final.csv
"""

import os
import shutil
import tarfile

import mlflow

data = os.environ["DATA"]
with mlflow.start_run():
    shutil.copy(f"{data}/cancer.csv", "copy.csv")
    with tarfile.open(f"{data}/cancer.tar.gz") as archive:
        archive.extractall("unpacked")
    shutil.copytree(f"{data}/pieces", "folder")
    with open("copy.csv") as source, open("final.csv.tmp", "w") as target:
        target.writelines(source)
    shutil.move("final.csv.tmp", "final.csv")
    mlflow.log_metric("size", os.path.getsize("final.csv"))
