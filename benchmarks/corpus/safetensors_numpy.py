"""Weights in safetensors files, loaded whole and by name.

needs: safetensors
reads: DATA/weights.safetensors DATA/adapter.safetensors
writes: WORK/merged.safetensors
blind: safetensors.safe_open
"""

import os

import mlflow
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

data = os.environ["DATA"]
with mlflow.start_run():
    weights = load_file(f"{data}/weights.safetensors")
    with safe_open(f"{data}/adapter.safetensors", framework="numpy") as adapter:
        for name in adapter.keys():
            weights[name] = weights[name] + adapter.get_tensor(name)
    save_file(weights, "merged.safetensors")
