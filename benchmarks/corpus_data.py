"""Makes the files that the corpus reads: ``python -m benchmarks.corpus_data FOLDER HOME``.

Real measurements (scikit-learn's breast-cancer and digits sets) in every format; what needs a
library that is not installed is left out, as are the scripts that need it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

IMAGES, SHARDS, PIECES = 40, 12, 6


def prepare(folder: Path, home: Path) -> None:
    """Write all files into a new folder, and some into caches of a home folder."""
    from sklearn.datasets import load_breast_cancer

    folder.mkdir(parents=True)
    frame = load_breast_cancer(as_frame=True).frame
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    _tables(folder, frame)
    _arrays(folder, frame)
    _images(folder)
    (folder / "settings.yaml").write_text("depth: 3\n")
    (folder / "settings.toml").write_text('name = "archives"\n')
    _scipy(folder, frame)
    _caches(home, frame)
    for part in (
        *(_hdf, _h5py, _polars_duckdb, _weights, _boosting, _torch, _saved, _delta),
        *(_spreadsheet, _tokenizer),
    ):
        with contextlib.suppress(ImportError):
            part(folder, frame)


def _tables(folder: Path, frame: Any) -> None:
    import pyarrow as pa

    frame.to_csv(folder / "cancer.csv", index=False)
    frame.to_csv(folder / "cancer.tsv", index=False, sep="\t")
    frame.iloc[:100].to_csv(folder / "validation.tsv", index=False, sep="\t")
    frame.to_parquet(folder / "cancer.parquet", index=False)
    frame.to_feather(folder / "cancer.feather")
    frame.to_orc(folder / "cancer.orc")
    frame.to_pickle(folder / "cancer.pkl")
    frame.to_json(folder / "cancer.jsonl", orient="records", lines=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with (
        pa.OSFile(str(folder / "cancer.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    for part in range(3):
        place = folder / "parts" / f"part={part}"
        place.mkdir(parents=True)
        frame.iloc[part::3].to_parquet(place / "rows.parquet", index=False)
    (folder / "pieces").mkdir()
    for piece in range(PIECES):
        frame.iloc[piece::PIECES].to_csv(folder / "pieces" / f"{piece}.csv", index=False)
    with contextlib.closing(sqlite3.connect(folder / "cancer.db")) as database:
        frame.to_sql("cancer", database, index=False)
    text = (folder / "cancer.csv").read_bytes()
    (folder / "cancer.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(folder / "cancer.zip", "w") as archive:
        archive.writestr("cancer.csv", text)
    with tarfile.open(folder / "cancer.tar.gz", "w:gz") as archive:
        archive.add(folder / "cancer.csv", "cancer.csv")


def _arrays(folder: Path, frame: Any) -> None:
    import joblib
    import numpy as np
    from sklearn.datasets import dump_svmlight_file
    from sklearn.preprocessing import StandardScaler

    x, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    np.save(folder / "cancer.npy", x)
    np.savez(folder / "cancer.npz", x=x, y=y)
    np.savetxt(folder / "cancer.txt", x)
    x.tofile(folder / "cancer.raw")
    dump_svmlight_file(x, y, str(folder / "cancer.svm"), zero_based=True)
    joblib.dump(StandardScaler().fit(x), folder / "scaler.joblib")
    (folder / "shards").mkdir()
    for shard in range(SHARDS):
        np.save(folder / "shards" / f"{shard:03}.npy", x[shard::SHARDS])


def _images(folder: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    (folder / "images").mkdir()
    for index in range(IMAGES):
        image = Image.fromarray((digits.images[index] * 15).astype("uint8"))
        image.save(folder / "images" / f"{index:03}.png")
    labels = {f"{index:03}": int(digits.target[index]) for index in range(IMAGES)}
    (folder / "labels.json").write_text(json.dumps(labels))


def _scipy(folder: Path, frame: Any) -> None:
    import numpy as np
    import scipy.io
    import scipy.io.wavfile
    import scipy.sparse

    x = frame.drop(columns="target").to_numpy()
    scipy.io.savemat(folder / "cancer.mat", {"x": x})
    with scipy.io.netcdf_file(folder / "cancer.nc", "w") as file:
        file.createDimension("row", len(x))
        file.createVariable("x", "d", ("row",))[:] = x[:, 0]
    scipy.io.wavfile.write(folder / "tone.wav", 8_000, np.zeros(800, "int16"))
    scipy.sparse.save_npz(folder / "sparse.npz", scipy.sparse.csr_matrix(x))


def _caches(home: Path, frame: Any) -> None:
    import numpy as np

    kaggle = home / ".cache/kagglehub/datasets/ana/cancer/versions/1"
    kaggle.mkdir(parents=True)
    frame.to_csv(kaggle / "cancer.csv", index=False)
    (home / ".keras/datasets").mkdir(parents=True)
    np.savez(home / ".keras/datasets/digits.npz", x=np.zeros((10, 64)))


def _spreadsheet(folder: Path, frame: Any) -> None:
    frame.head().to_excel(folder / "cancer.xlsx", index=False)


def _tokenizer(folder: Path, _frame: Any) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?")).save(str(folder / "tokenizer.json"))


def _hdf(folder: Path, frame: Any) -> None:
    frame.to_hdf(folder / "table.h5", key="cancer")


def _h5py(folder: Path, frame: Any) -> None:
    import h5py

    with h5py.File(folder / "cancer.h5", "w") as file:
        file["x"] = frame.drop(columns="target").to_numpy()
        file["y"] = frame["target"].to_numpy()


def _polars_duckdb(folder: Path, _frame: Any) -> None:
    import duckdb

    with duckdb.connect(str(folder / "cancer.duckdb")) as connection:
        connection.execute(f"CREATE TABLE cancer AS SELECT * FROM '{folder}/cancer.parquet'")


def _weights(folder: Path, _frame: Any) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    for name in ("weights", "adapter"):
        tensors = {"layer": np.ones((8, 8), "float32"), "bias": np.zeros(8, "float32")}
        save_file(tensors, str(folder / f"{name}.safetensors"))


def _boosting(folder: Path, frame: Any) -> None:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=2)
    model.fit(frame.drop(columns="target"), frame["target"])
    model.save_model(folder / "last-week.ubj")


def _torch(folder: Path, _frame: Any) -> None:
    import torch

    torch.save(torch.nn.Linear(30, 1).state_dict(), folder / "start.pt")


def _saved(folder: Path, frame: Any) -> None:
    from datasets import Dataset

    Dataset.from_dict({"target": frame["target"].tolist()}).save_to_disk(str(folder / "saved"))


def _delta(folder: Path, frame: Any) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(folder / "delta"), frame)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
