"""asyncio and threads.

reads: WORK/a.csv WORK/b.csv WORK/c.csv
writes: WORK/o.csv
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


for n in "abc":
    make(f"{n}.csv")
import mlflow
import asyncio
import concurrent.futures


def rd(n):
    return open(n).read()


async def main():
    a = await asyncio.to_thread(rd, "a.csv")
    b = await asyncio.get_running_loop().run_in_executor(None, rd, "b.csv")
    open("o.csv", "w").write(a + b)


with mlflow.start_run():
    asyncio.run(main())
    with concurrent.futures.ThreadPoolExecutor(2) as ex:
        list(ex.map(rd, ["c.csv"]))
