"""DataLoader workers started by spawn, images from Pillow.

needs: torch
reads: DATA/images/*.png
writes:
"""

import os
from pathlib import Path

import mlflow
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return np.asarray(Image.open(self.paths[index]), dtype="float32")


if __name__ == "__main__":
    paths = sorted(Path(os.environ["DATA"], "images").glob("*.png"))
    loader = DataLoader(Images(paths), batch_size=8, num_workers=2, multiprocessing_context="spawn")
    with mlflow.start_run():
        mlflow.log_metric("mean", float(np.mean([batch.mean().item() for batch in loader])))
