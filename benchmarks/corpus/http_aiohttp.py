"""Files of a web server, many at a time.

service: web
needs: aiohttp httpx
reads: WEB/pieces/0.csv WEB/pieces/1.csv WEB/pieces/2.csv WEB/cancer.tsv
writes: WORK/piece-*.csv
"""

import asyncio
import os
from pathlib import Path

import aiohttp
import httpx
import mlflow

web = os.environ["WEB"]


async def fetch(session, number):
    async with session.get(f"{web}/pieces/{number}.csv?signature=secret") as answer:
        Path(f"piece-{number}.csv").write_bytes(await answer.read())


async def fetch_all():
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(fetch(session, number) for number in range(3)))
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{web}/cancer.tsv")).text


with mlflow.start_run():
    text = asyncio.run(fetch_all())
    mlflow.log_metric("size", len(text))
