"""HDF5 files that have HDF5 open others: links, virtual data sets, external storage, families.

needs: h5py
reads: WORK/main.h5 WORK/linked.h5 WORK/grouped.h5 WORK/part-*.h5 WORK/raw.bin WORK/family-*.h5 WORK/alias.h5 WORK/edited.h5
writes: WORK/edited.h5 WORK/out.h5
"""

import pathlib

import h5py
import numpy as np

for name in ("linked", "grouped", "unused", "part-0", "part-1", "alias", "edited"):
    with h5py.File(f"{name}.h5", "w") as file:
        file["x"] = np.arange(10.0)
with h5py.File("family-%d.h5", "w", driver="family", memb_size=4_096) as file:
    file["x"] = np.arange(2_000.0)
with h5py.File("main.h5", "w") as file:
    file["own/x"] = np.arange(10.0)
    file["own"].attrs["unit"] = "mm"
    file["soft"] = h5py.SoftLink("/own/x")
    file["linked"] = h5py.ExternalLink("linked.h5", "/x")
    file["grouped"] = h5py.ExternalLink("grouped.h5", "/")
    file["unused"] = h5py.ExternalLink("unused.h5", "/x")
    layout = h5py.VirtualLayout((2, 10), "f8")
    for part in range(2):
        layout[part] = h5py.VirtualSource(f"part-{part}.h5", "x", (10,))
    file.create_virtual_dataset("virtual", layout)
    file.create_dataset("raw", (10,), "f8", external=[("raw.bin", 0, 80)])[:] = 1.0

import mlflow

with mlflow.start_run():
    with h5py.File(pathlib.Path("main.h5")) as file:
        total = file["own/x"][:].sum() + file["soft"][0] + file["own/x"].size
        total += file["linked"][:].sum() + file["grouped"]["x"][:].sum()
        total += file["virtual"][1].sum() + file["raw"][:].sum()
        assert file.get("unused", getlink=True).filename == "unused.h5"
    with h5py.File("family-%d.h5", "r", driver="family", memb_size=4_096) as file:
        total += file["x"][:].sum()
    with open("alias.h5", "rb") as opened, h5py.File(opened, "r") as file:
        total += file["x"][:].sum()
    with h5py.File("edited.h5", "r+") as file:
        file["y"] = file["x"][:] * 2
    with h5py.File("out.h5", "w") as file:
        file["total"] = total
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = total
    mlflow.log_metric("total", total)
