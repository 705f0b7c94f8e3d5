"""Tensors that PyTorch maps into memory, and a saved module.

needs: torch
reads: DATA/start.pt DATA/cancer.raw
writes: WORK/network.pt
"""

import os

import mlflow
import torch

data = os.environ["DATA"]
with mlflow.start_run():
    state = torch.load(f"{data}/start.pt", mmap=True)
    size = os.path.getsize(f"{data}/cancer.raw") // 8
    raw = torch.from_file(f"{data}/cancer.raw", size=size, dtype=torch.float64)
    network = torch.nn.Linear(30, 1)
    network.load_state_dict(state)
    torch.save(network, "network.pt")
    mlflow.log_metric("sum", float(raw.sum()))
