"""A tokenizer, which a library in Rust reads and writes.

needs: tokenizers
reads: DATA/tokenizer.json
writes: WORK/trained.json
blind: tokenizers
"""

import os

import mlflow
from tokenizers import Tokenizer

with mlflow.start_run():
    tokenizer = Tokenizer.from_file(f"{os.environ['DATA']}/tokenizer.json")
    tokenizer.save("trained.json")
    mlflow.log_metric("size", tokenizer.get_vocab_size())
