"""Every way of the standard library.

reads: WORK/1.txt WORK/2.txt WORK/3.txt WORK/4.txt WORK/5.txt WORK/6.txt WORK/7.json WORK/8.ini WORK/9.xml WORK/a.csv WORK/c.html WORK/w.wav
writes: WORK/o1.txt WORK/o2.txt WORK/o3.pkl WORK/o4.csv WORK/renamed.txt
"""

import os
import pathlib


def make(name, text="a,b\n1,2\n3,4\n"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


import wave

for n in range(1, 7):
    make(f"{n}.txt")
make("7.json", "{}")
make("8.ini", "[a]\nb=1\n")
make("9.xml", "<a/>")
make("a.csv")
make("c.html", "<p>")
with wave.open("w.wav", "wb") as w:
    w.setnchannels(1)
    w.setsampwidth(1)
    w.setframerate(8000)
    w.writeframes(b"0" * 10)
import mlflow
import io
import codecs
import json
import configparser
import csv
import pickle
import fileinput
import xml.etree.ElementTree as ET
import html.parser

with mlflow.start_run():
    pathlib.Path("1.txt").read_text()
    io.FileIO("2.txt").read()
    codecs.open("3.txt").read()
    io.open_code(os.path.abspath("4.txt")).read()
    fd = os.open("5.txt", os.O_RDONLY)
    os.fdopen(fd).read()
    with fileinput.input("6.txt") as f:
        list(f)
    json.load(open("7.json"))
    configparser.ConfigParser().read("8.ini")
    ET.parse("9.xml")
    list(csv.DictReader(open("a.csv")))
    html.parser.HTMLParser().feed(open("c.html").read())
    wave.open("w.wav").readframes(5)
    pathlib.Path("o1.txt").write_text("x")
    print("x", file=open("o2.txt", "a"))
    pickle.dump(1, open("o3.pkl", "wb"))
    csv.writer(open("o4.csv", "w")).writerow([1])
    pathlib.Path("tmp.txt").write_text("x")
    pathlib.Path("tmp.txt").rename("renamed.txt")
