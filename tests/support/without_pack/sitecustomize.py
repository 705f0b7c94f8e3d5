"""Hide the installed pack from a Python process: what is left is stock MLflow.

Python runs this file at its start when its folder is on PYTHONPATH. With HIDE_PACK=1 no
distribution named mlflow-plugins-pack is found, so none of its entry points exist, and importing
the package fails loudly. Without the variable nothing is changed: a comparison runs both sides
with this folder on the path, so that it costs both the same.
"""

import importlib.abc
import importlib.metadata
import os
import sys


class _Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "mlflow_plugins_pack":
            raise ImportError(f"{fullname} is hidden: this process is stock MLflow")


def _hide():
    # Not the path finder: the importlib_metadata backport adds one of its own.
    discover = importlib.metadata.Distribution.discover

    def discover_all_but_the_pack(**kwargs):
        for distribution in discover(**kwargs):
            # By the folder's name: parsing all metadata would slow stock's side by half a second.
            folder = str(getattr(distribution, "_path", ""))
            if "mlflow_plugins_pack-" not in folder and "mlflow_plugins_pack." not in folder:
                yield distribution

    importlib.metadata.Distribution.discover = staticmethod(discover_all_but_the_pack)
    sys.meta_path.insert(0, _Refuse())


if os.environ.get("HIDE_PACK") == "1":
    _hide()
