"""Programs that are asked over a connection: PostgreSQL, the object store, MLflow."""
