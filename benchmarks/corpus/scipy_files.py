"""Formats that SciPy reads: MATLAB, NetCDF, sound, sparse matrices.

reads: DATA/cancer.mat DATA/cancer.nc DATA/tone.wav DATA/sparse.npz
writes: WORK/out.mat WORK/out.npz WORK/out.mtx
"""

import os

import mlflow
import scipy.io
import scipy.io.wavfile
import scipy.sparse

data = os.environ["DATA"]
with mlflow.start_run():
    matrix = scipy.io.loadmat(f"{data}/cancer.mat")["x"]
    with scipy.io.netcdf_file(f"{data}/cancer.nc", mmap=False) as file:
        count = file.variables["x"].shape[0]
    rate, tone = scipy.io.wavfile.read(f"{data}/tone.wav")
    sparse = scipy.sparse.load_npz(f"{data}/sparse.npz")
    scipy.io.savemat("out.mat", {"x": matrix})
    scipy.sparse.save_npz("out.npz", sparse)
    scipy.io.mmwrite("out.mtx", sparse)
    mlflow.log_metric("rows", count + rate + len(tone))
