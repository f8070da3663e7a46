"""MLflow's REST API as the administrator: accounts, roles and grants of the server on this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret

TIMEOUT = 30.0  # seconds for one answer
UNIT = "mlflow.service"


class ApiError(OnPremError):
    """MLflow refused a request. `code` is its own error code, such as RESOURCE_DOES_NOT_EXIST, `status` that of HTTP."""

    def __init__(self, message: str, status: int, code: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code


class MlflowApi:
    """Requests to one server with one account, over one connection, never through a proxy."""

    def __init__(self, url: str, username: str, password: Secret) -> None:
        self.url = url
        self.username = username
        self._password = password
        self._session: Any = None

    def call(self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request, for instance ("GET", "2.0/mlflow/users/list"); the answer's object.

        Raises ApiError where MLflow refuses, OnPremError where nothing answers.
        """
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False  # neither a proxy nor a .netrc has a say on the way to this host
            self._session.auth = (self.username.encode(), self._password.reveal().encode())
        try:
            answer = self._session.request(method, f"{self.url}/api/{path}", json=body, params=query, timeout=TIMEOUT, allow_redirects=False)
        except requests.Timeout:
            raise OnPremError(f"MLflow at {self.url} did not answer within {TIMEOUT:.0f} s", "see why: mlflow-onprem status") from None
        except requests.RequestException:
            raise OnPremError(f"MLflow at {self.url} cannot be reached", "see why: mlflow-onprem status") from None
        if answer.status_code == 401:
            raise ApiError(
                f"MLflow does not accept the administrator's account ({self.username}) of /etc/mlflow-onprem/credentials.json",
                401,
                "UNAUTHENTICATED",
                "its password was changed in MLflow; a new one everywhere: sudo mlflow-onprem rotate-credentials --only mlflow",
            )
        try:
            found = answer.json() if answer.content else {}
        except ValueError:
            found = {}
        if answer.status_code != 200:
            code, message = (str(found.get(key, "")) for key in ("error_code", "message"))
            hint = "see why: mlflow-onprem logs mlflow" if answer.status_code >= 500 else ""
            raise ApiError(f"MLflow says: {message or answer.text[:200].strip() or f'HTTP {answer.status_code}'}", answer.status_code, code, hint)
        return found if isinstance(found, dict) else {}

    def experiments(self) -> dict[str, str]:
        """Names by id, deleted ones that can still be restored included."""
        found: dict[str, str] = {}
        token = ""
        while True:
            body = {"max_results": 1000, "view_type": "ALL", **({"page_token": token} if token else {})}
            page = self.call("POST", "2.0/mlflow/experiments/search", body=body)
            found |= {each["experiment_id"]: each["name"] for each in page.get("experiments", [])}
            token = page.get("next_page_token", "")
            if not token:
                return found
