"""Runs the Python blocks of pages: each line of input is one block, as JSON; so is each answer."""

import contextlib
import io
import json
import os
import sys
import traceback

# Each block sees the names of those before it on its page, and no others.
names: dict[str, object] = {"__name__": "__main__"}
answers, sys.stdout = sys.stdout, sys.stderr

for line in sys.stdin:
    asked = json.loads(line)
    if asked["fresh"]:
        names = {"__name__": "__main__"}
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    output, status = io.StringIO(), 0
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(asked["code"], "the page's block", "exec"), names)
        except Exception:
            status = 1
            traceback.print_exc(file=output)
    print(json.dumps({"status": status, "output": output.getvalue()}), file=answers, flush=True)
