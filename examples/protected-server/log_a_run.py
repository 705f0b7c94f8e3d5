"""Log a run and read it back: ordinary MLflow code, signed in by the profile."""

from pathlib import Path

import mlflow


def main() -> None:
    """Log one metric and one artifact, and read both back."""
    mlflow.set_experiment("protected")
    with mlflow.start_run() as run:
        mlflow.log_metric("answer", 42)
        Path("note.txt").write_text("signed in\n")
        mlflow.log_artifact("note.txt")
    answer = mlflow.get_run(run.info.run_id).data.metrics["answer"]
    note = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt")
    print(f"run {run.info.run_id}: answer {answer:.0f}, note: {note.strip()}")


if __name__ == "__main__":
    main()
