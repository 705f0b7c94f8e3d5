#!/usr/bin/env bash
# Start a team's MLflow server with the pack switched on. Options go to `mlflow server`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

: "${DATABASE_URL:?such as postgresql+psycopg://user:password@host/mlflow}"
: "${ARTIFACTS:?such as s3://bucket/prefix}"
export MLFLOW_PACK_APPROVALS_POLICY=${MLFLOW_PACK_APPROVALS_POLICY:-$here/policy.yaml}

uris=(
    --backend-store-uri "$DATABASE_URL"
    --registry-store-uri "approval-$DATABASE_URL"
    --artifacts-destination "cas-$ARTIFACTS"
)
mlflow-pack doctor "${uris[@]}"
exec mlflow server --app-name approvals-basic-auth "${uris[@]}" "$@"
