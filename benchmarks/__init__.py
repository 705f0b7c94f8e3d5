"""Stock MLflow and the pack, measured side by side: ``python -m benchmarks --list``."""
