"""Lightning with its MLflow logger.

needs: lightning torch
reads: DATA/cancer.csv
writes: WORK/ck/last.ckpt
blind: what was read before import mlflow
"""

import os

import torch
import pandas as pd
import lightning as L
from lightning.pytorch.loggers import MLFlowLogger


class M(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(30, 1)

    def training_step(self, b, i):
        loss = self.l(b[0]).pow(2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-9)


f = pd.read_csv(os.environ["DATA"] + "/cancer.csv")
x = torch.tensor(f.drop(columns="target").to_numpy(), dtype=torch.float32)
from lightning.pytorch.callbacks import ModelCheckpoint

log = MLFlowLogger(
    os.environ["MLFLOW_EXPERIMENT_NAME"], tracking_uri=os.environ["MLFLOW_TRACKING_URI"]
)
L.Trainer(
    max_epochs=1,
    logger=log,
    enable_progress_bar=False,
    callbacks=[ModelCheckpoint("ck", save_last=True, save_top_k=0)],
    accelerator="cpu",
).fit(M(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 64))
