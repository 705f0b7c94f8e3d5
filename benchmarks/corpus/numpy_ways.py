"""numpy.

reads: WORK/a.npy WORK/b.npz WORK/c.txt WORK/d.bin WORK/e.txt WORK/m.npy
writes: WORK/o.npy WORK/o.npz WORK/o.txt WORK/o.bin
"""

import numpy as np

x = np.arange(6.0)
np.save("a.npy", x)
np.savez("b.npz", x=x)
np.savetxt("c.txt", x)
x.tofile("d.bin")
np.savetxt("e.txt", x)
np.save("m.npy", x)
import mlflow

with mlflow.start_run():
    np.load("a.npy")
    np.load("b.npz")["x"]
    np.loadtxt("c.txt")
    np.fromfile("d.bin")
    np.genfromtxt("e.txt")
    np.load("m.npy", mmap_mode="r").sum()
    np.save("o.npy", x)
    np.savez_compressed("o.npz", x=x)
    np.savetxt("o.txt", x)
    x.tofile("o.bin")
