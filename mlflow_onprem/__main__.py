"""`mlflow-onprem`."""

from mlflow_onprem.cli import main

if __name__ == "__main__":
    main()
