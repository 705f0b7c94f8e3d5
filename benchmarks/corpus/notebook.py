"""A notebook executed by nbclient; a cell is run twice.

needs: nbclient ipykernel
reads: DATA/cancer.csv DATA/cancer.npy
writes: WORK/notebook.csv
"""

import nbformat
from nbclient import NotebookClient

CELLS = [
    "import os, mlflow, numpy as np, pandas as pd",
    "run = mlflow.start_run()\nframe = pd.read_csv(os.environ['DATA'] + '/cancer.csv')",
    "frame = pd.read_csv(os.environ['DATA'] + '/cancer.csv')\nframe.head(3)",
    "x = np.load(os.environ['DATA'] + '/cancer.npy')\nframe[:5].to_csv('notebook.csv')",
    "mlflow.log_metric('mean', float(x.mean()))\nmlflow.end_run()",
]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
NotebookClient(book, timeout=300, kernel_name="python3").execute()
