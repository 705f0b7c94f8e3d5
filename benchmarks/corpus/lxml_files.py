"""lxml opens in C.

needs: lxml
reads: WORK/a.xml
writes: WORK/o.xml
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


make("a.xml", "<a/>")
import mlflow
from lxml import etree

with mlflow.start_run():
    t = etree.parse("a.xml")
    t.write("o.xml")
