"""`make try`: a sandbox with the whole stack, a run logged from outside, and how to go on from there."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.sandbox import command
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.local_host import LocalHost

ROOT = Path(__file__).resolve().parents[1]


def client(host: LocalHost) -> str:
    """A Python with MLflow's own client in it, made once; the environment is this machine's, the version the server's."""
    version = Config().mlflow.version
    folder = ROOT / ".cache" / f"client-{version}"
    python = f"{folder}/bin/python"
    if not (folder / "made").exists():
        say(f"making a client: mlflow-skinny {version} in {folder.relative_to(ROOT)}")
        uv = str(Path(sys.executable).with_name("uv"))
        host.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], timeout=300)
        host.run([uv, "pip", "install", "--quiet", "--python", python, f"mlflow-skinny=={version}"], timeout=600)
        (folder / "made").touch()
    return python


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Returns the exit status."""
    began = time.monotonic()
    host = LocalHost()
    try:
        made = command.up(on_progress=say)
        python = client(host)
        account = made.account
        # By environment, not by argument: `ps` shows arguments to everybody.
        env = {
            "MLFLOW_TRACKING_URI": account.uri,
            "MLFLOW_TRACKING_USERNAME": account.username,
            "MLFLOW_TRACKING_PASSWORD": account.password.reveal(),
            **{name: ",".join(filter(None, [os.environ.get(name), made.address])) for name in ("NO_PROXY", "no_proxy")},
        }
        say("logging a run with an artifact from this machine")
        result = host.run([python, str(ROOT / "tests" / "client.py")], env=env, timeout=120)
        answer = json.loads(result.out.splitlines()[-1])
    except OnPremError as failed:
        print(f"error: {failed.message}", *([failed.output] if failed.output else []), f"what next: {failed.hint}", sep="\n", file=sys.stderr)
        return int(failed.exit_code)
    if not (answer["same_bytes"] and answer["same_metric"]):
        print(f"error: what came back is not what was logged: {answer}", file=sys.stderr)
        return 1
    say(
        f"""
MLflow serves on a real {made.release} host in a sandbox ({time.monotonic() - began:.0f} s). A run with {answer["bytes"]} bytes of artifact
went there and came back byte for byte:
  {made.url}/#/experiments/{answer["experiment_id"]}/runs/{answer["run_id"]}

  open         {made.url}
  account      {account.username} / {account.password.reveal()}
  look around  sudo .venv/bin/mlflow-onprem sandbox shell
  throw away   sudo .venv/bin/mlflow-onprem sandbox down"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
