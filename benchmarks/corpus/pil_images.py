"""Images opened by Pillow, one by one; thumbnails are written.

reads: DATA/images/*.png DATA/labels.json
writes: WORK/thumbs/*.jpg
"""

import json
import os
from pathlib import Path

import mlflow
import numpy as np
from PIL import Image

data = Path(os.environ["DATA"])
labels = json.loads((data / "labels.json").read_text())
Path("thumbs").mkdir()
pixels = []
with mlflow.start_run():
    for path in sorted((data / "images").glob("*.png")):
        image = Image.open(path)
        pixels.append(np.asarray(image).mean() + labels[path.stem])
        image.convert("L").resize((4, 4)).save(f"thumbs/{path.stem}.jpg")
    mlflow.log_metric("mean", float(np.mean(pixels)))
