"""What runs inside MLflow's own environment, installed there as ``mlflow_onprem_server``.

It reaches MLflow through its plugin entry points and imports nothing of the installer.
This module stays all but empty: the supervisor process imports it and must not grow.
"""

__version__ = "1.0.0"
