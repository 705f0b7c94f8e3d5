"""The artifact repository ``cas-...``: deduplicated, verified, optionally encrypted.

May import the package's shared modules (``uris``, ``settings``, ``errors``, ...); the rooms below
import downwards only, as the contract in pyproject.toml lists them. Never imports another plugin.
"""

# MLflow loads the module `plugin` while it is imported. A program that imports `plugin` first would
# otherwise give MLflow half a module, and leave the schemes unregistered in its process.
import mlflow  # noqa: F401
