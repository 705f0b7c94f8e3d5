"""Pictures through OpenCV in a loop, and a video, whose reader is native.

needs: cv2
reads: DATA/images/*.png
writes: WORK/mean.png
"""

import glob
import os

import cv2
import mlflow
import numpy as np

with mlflow.start_run():
    total = np.zeros((8, 8, 3))
    for path in sorted(glob.glob(f"{os.environ['DATA']}/images/*.png")):
        total += cv2.imread(path)
    cv2.imwrite("mean.png", total / 40)
    mlflow.log_metric("mean", total.mean())
