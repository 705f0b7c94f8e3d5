"""TorchScript, which opens in C++.

needs: torch
reads: WORK/m.pt WORK/e.pt
writes: WORK/o.pt
"""

import torch

m = torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(1, 2))
m.save("m.pt")
torch.jit.save(m, "e.pt")
import mlflow

with mlflow.start_run():
    m = torch.jit.load("m.pt")
    torch.jit.load("e.pt")
    torch.jit.save(m, "o.pt")
