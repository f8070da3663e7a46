"""What runs inside MLflow's own environment, installed there as ``mlflow_onprem_server``.

It reaches MLflow through its plugin entry points and imports nothing of the installer.
This module stays empty: the supervisor process imports it and must not grow.
"""
