"""In MLflow's environment, as a worker sees the world: `make` a webhook's and a gateway's secret, or `read` them back; prints both."""

import json
import os
import sys

from mlflow_onprem_server import environment, keyring
from mlflow_onprem_server.settings import read

settings = read(os.environ)
environment.apply(settings)

from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent  # noqa: E402
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry  # noqa: E402
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking  # noqa: E402

keyring.install(settings)
registry, tracking = Registry(settings.database_uri), Tracking(settings.database_uri, "mlflow-artifacts:/")
if sys.argv[1] == "make":
    event = WebhookEvent(WebhookEntity.REGISTERED_MODEL, WebhookAction.CREATED)
    registry.create_webhook("hook", "https://hook.example.com/", [event], secret="the-webhook's-secret")
    tracking.create_gateway_secret("provider", {"api_key": "the-gateway's-secret"}, "openai")
(number,) = [each.secret_id for each in tracking.list_secret_infos()]
webhook = registry.list_webhooks()[0]
print(json.dumps({"webhook": webhook.secret, "gateway": tracking._get_decrypted_secret(number)}))
