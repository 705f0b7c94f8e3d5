"""Train a tumour classifier: an ordinary script that does not mention lineage."""

import argparse

import mlflow
import pandas as pd
import sklearn
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split


def main() -> None:
    """Search hyper-parameters, log the best model and register it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", required=True, help="CSV file: one row a patient")
    parser.add_argument("--diagnoses", required=True, help="parquet file: patient, benign")
    parser.add_argument("--register-as", required=True, help="name of the registered model")
    arguments = parser.parse_args()

    measurements = pd.read_csv(arguments.measurements, index_col="patient")
    diagnoses = pd.read_parquet(arguments.diagnoses).set_index("patient")
    data = measurements.join(diagnoses)
    features, benign = data.drop(columns="benign"), data["benign"]
    train_x, test_x, train_y, test_y = train_test_split(features, benign, random_state=7)

    mlflow.set_experiment("tumours")
    mlflow.sklearn.autolog(log_models=False, max_tuning_runs=6)
    with mlflow.start_run(run_name="search") as run:
        search = GridSearchCV(
            RandomForestClassifier(random_state=7),
            {"n_estimators": [50, 150], "max_depth": [3, 6, 9]},
            scoring="roc_auc",
            cv=3,
        )
        search.fit(train_x, train_y)
        best = search.best_estimator_
        mlflow.log_metric("auc", roc_auc_score(test_y, best.predict_proba(test_x)[:, 1]))
        mlflow.sklearn.log_model(
            best,
            name="model",
            serialization_format="cloudpickle",
            signature=infer_signature(train_x, best.predict(train_x)),
            # Named, so that MLflow need not load the model once more to find it out.
            pip_requirements=["cloudpickle", f"scikit-learn=={sklearn.__version__}"],
            registered_model_name=arguments.register_as,
        )
    print(run.info.run_id)


if __name__ == "__main__":
    main()
