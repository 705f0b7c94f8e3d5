"""OpenCV in threads, which also write what they made.

needs: cv2
reads: DATA/images/*.png
writes: WORK/blurred/*.png
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import mlflow

Path("blurred").mkdir()


def blur(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(f"blurred/{path.name}", cv2.blur(image, (3, 3)))


with mlflow.start_run(), ThreadPoolExecutor(4) as pool:
    list(pool.map(blur, sorted(Path(os.environ["DATA"], "images").glob("*.png"))))
