"""pandas.

reads: WORK/a.csv WORK/j.json WORK/p.pkl WORK/x.xml WORK/h.html WORK/f.txt WORK/s.dta WORK/t.tsv
writes: WORK/o.csv WORK/o.json WORK/o.pkl WORK/o.html WORK/o.tex WORK/o.md WORK/o.dta WORK/o.feather WORK/o.orc
"""

import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


import pandas as pd

f = pd.DataFrame({"a": [1, 2]})
f.to_csv("a.csv", index=False)
f.to_json("j.json")
f.to_pickle("p.pkl")
f.to_html("h.html")
f.to_stata("s.dta")
f.to_csv("t.tsv", sep="\t")
make("f.txt", "1 2\n3 4\n")
make("x.xml", "<d><r><a>1</a></r></d>")
import mlflow

with mlflow.start_run():
    pd.read_csv("a.csv", chunksize=1).read()
    pd.read_json("j.json")
    pd.read_pickle("p.pkl")
    pd.read_fwf("f.txt")
    pd.read_stata("s.dta")
    pd.read_table("t.tsv")
    pd.read_xml("x.xml", parser="etree")
    open("h.html").read()
    f.to_csv("o.csv")
    f.to_json("o.json")
    f.to_pickle("o.pkl")
    f.to_html("o.html")
    open("o.md", "w").write(str(f))
    f.to_stata("o.dta")
    f.to_feather("o.feather")
    f.to_orc("o.orc")
    open("o.tex", "w").write("x")
