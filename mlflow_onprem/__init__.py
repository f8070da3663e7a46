"""mlflow-onprem: one plain server becomes a complete MLflow Tracking stack, and stays one."""

__version__ = "0.1.0"
