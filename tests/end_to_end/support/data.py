"""Real data, written to the files that a test then reads."""

from __future__ import annotations

from pathlib import Path


def write_breast_cancer(folder: Path) -> tuple[Path, Path]:
    """Write scikit-learn's breast-cancer data: measurements as CSV, diagnoses as parquet."""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    frame = frame.rename_axis(index="patient").rename(columns={"target": "benign"})
    measurements, diagnoses = folder / "measurements.csv", folder / "diagnoses.parquet"
    frame.drop(columns="benign").to_csv(measurements)
    frame[["benign"]].reset_index().to_parquet(diagnoses)
    return measurements, diagnoses
