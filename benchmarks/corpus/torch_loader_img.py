"""An image data set with workers.

needs: torch
reads: DATA/images/*.png
writes:
"""

import os

import mlflow
import torch
import glob
import numpy as np
from PIL import Image


class D(torch.utils.data.Dataset):
    def __init__(self):
        self.n = sorted(glob.glob(os.environ["DATA"] + "/images/*.png"))

    def __len__(self):
        return len(self.n)

    def __getitem__(self, i):
        return np.asarray(Image.open(self.n[i]))


if __name__ == "__main__":
    with mlflow.start_run():
        for e in range(2):
            list(torch.utils.data.DataLoader(D(), 4, num_workers=2))
