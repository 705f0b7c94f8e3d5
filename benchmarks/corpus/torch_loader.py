"""A network trained by a DataLoader whose workers read the files.

needs: torch
reads: DATA/shards/*.npy DATA/start.pt
writes: WORK/network.pt
"""

import os
from pathlib import Path

import mlflow
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Shards(Dataset):
    def __init__(self, folder):
        self.paths = sorted(Path(folder).glob("*.npy"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(np.load(self.paths[index])).float()


if __name__ == "__main__":
    data = os.environ["DATA"]
    network = torch.nn.Linear(30, 1)
    network.load_state_dict(torch.load(f"{data}/start.pt"))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    with mlflow.start_run():
        for _ in range(2):
            for batch in DataLoader(Shards(f"{data}/shards"), batch_size=None, num_workers=2):
                loss = network(batch[:, :30]).mean()
                loss.backward()
                optimizer.step()
        torch.save(network.state_dict(), "network.pt")
