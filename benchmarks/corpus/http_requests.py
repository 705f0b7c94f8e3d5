"""Files of a web server through requests, urllib and httpx.

service: web
needs: httpx
reads: WEB/cancer.csv WEB/labels.json WEB/cancer.tsv
writes: WORK/download.csv
"""

import json
import os
import urllib.request

import httpx
import mlflow
import requests

web = os.environ["WEB"]
with mlflow.start_run():
    answer = requests.get(f"{web}/cancer.csv", params={"token": "secret"}, timeout=30)
    with open("download.csv", "wb") as file:
        file.write(answer.content)
    with urllib.request.urlopen(f"{web}/labels.json") as response:
        labels = json.load(response)
    text = httpx.get(f"{web}/cancer.tsv").text
    assert requests.get(f"{web}/absent.csv", timeout=30).status_code == 404
    mlflow.log_metric("size", len(labels) + len(text))
