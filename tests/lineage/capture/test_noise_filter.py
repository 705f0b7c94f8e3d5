"""The noise filter, judged on paths only."""

from __future__ import annotations

import pytest
from hypothesis import given

from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter
from tests.lineage.support.strategies import paths

FILTER = NoiseFilter(interpreter=["/opt/python", "/"], home="/home/alice")


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/train.csv",
        "/tmp/pytest-of-root/x/rows.parquet",
        "/opt/data/train.csv",
        "/opt/pythonic/train.csv",
        "/var/lib/data/a.bin",
        "/home/alice/data.json",
        "/home/alice/project/conf.yaml",
        "/srv/no-suffix",
        "/data/.hidden/train.csv",
        "/usr/src/app/data/train.csv",
        "/usr/local/airflow/dags/data.csv",
        "/opt/python/project/train.csv",
        "/dev/shm/batch.npy",
        "/run/media/alice/disk/train.csv",
        "/run/user/1000/gvfs/share/train.csv",
        "/var/log/app/events.csv",
        "/var/cache/app/train.csv",
        "/home/alice/.cache/x/a.csv",
        "/home/alice/.cache/kagglehub/datasets/o/n/versions/1/a.csv",
        "/home/alice/.cache/huggingface/hub/datasets--x/snapshots/0a/train.csv",
        "/home/alice/.cache/torch/hub/checkpoints/resnet18.pth",
        "/home/alice/.keras/datasets/mnist.npz",
        "/home/alice/.local/share/pooch/a.csv",
    ],
)
def test_data(path: str) -> None:
    assert FILTER.is_data(path)


@pytest.mark.parametrize(
    "path",
    [
        "/opt/python/lib/python3.11/os.py",
        "/x/lib/site-packages/sklearn/datasets/data/iris.csv",
        "/proc/self/status",
        "/etc/hostname",
        "/usr/share/zoneinfo/UTC",
        "/home/alice/.aws/credentials",
        "/home/alice/.kaggle/kaggle.json",
        "/home/alice/.config/app/settings.json",
        "/home/alice/.local/lib/x/a.json",
        "/home/alice/.cache/pip/http/a",
        "/home/alice/.cache/matplotlib/fontlist-v330.json",
        "/home/alice/.cache/huggingface/token",
        "/usr/lib/x/a.csv",
        "/usr/local/lib/x/a.json",
        "/dev/urandom",
        "/run/secrets/password",
        "/opt/python/share/x/a.json",
        "/srv/job/mlruns/0/abc/artifacts/model/data.csv",
        "/srv/job/.git/index",
        "/srv/job/mlflow.db",
        "/srv/job/x.db-journal",
        "/srv/job/train.py",
        "/srv/job/__pycache__/a.npz",
        "/srv/job/.env",
        "/tmp/joblib_memmapping_folder_1_2/x.pkl",
        "/srv/job/a.egg-info/PKG-INFO",
        "/srv/job/",
    ],
)
def test_noise(path: str) -> None:
    assert not FILTER.is_data(path)


def test_include_brings_back_data_but_not_code() -> None:
    judge = NoiseFilter(include=["/x/site-packages/mine/data", "*/iris.csv"], exclude=["*secret*"])
    assert judge.is_data("/x/site-packages/mine/data/deep/a.csv")
    assert judge.is_data("/usr/lib/site-packages/sklearn/iris.csv")
    assert not judge.is_data("/x/site-packages/mine/data/a.pyc")
    assert not judge.is_data("/x/site-packages/other/a.csv")
    assert not judge.is_data("/x/site-packages/mine/data/secret.csv")
    assert not judge.is_data("/data/secret/a.csv")


@given(paths)
def test_verdicts_do_not_depend_on_what_was_asked_before(path: str) -> None:
    fresh = NoiseFilter(interpreter=["/opt/python"], home="/home/alice")
    used = NoiseFilter(interpreter=["/opt/python"], home="/home/alice")
    used.is_data(path + "-other")
    assert used.is_data(path) == fresh.is_data(path) == used.is_data(path)
