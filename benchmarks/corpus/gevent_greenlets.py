"""gevent's greenlets.

needs: gevent
reads: WORK/a.csv WORK/b.csv
writes:
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


from gevent import monkey

monkey.patch_all()
import gevent

make("a.csv")
make("b.csv")
import mlflow

with mlflow.start_run():
    gevent.joinall([gevent.spawn(lambda n=n: open(n).read()) for n in ("a.csv", "b.csv")])
