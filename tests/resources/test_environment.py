"""MLflow's environment: made from its lock, and every file in it is as it was left or it is rebuilt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Result
from mlflow_onprem.resources.environment import Environment, EnvironmentState, fingerprint, has_python, lock_key
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import Call, FakeHost


def test_the_fingerprint_sees_every_change_but_byte_code_and_its_own_record(tmp_path: Path) -> None:
    host, folder = LocalHost(), tmp_path / "env"
    for name in ("lib/a.py", "lib/b.py", "bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    (folder / "link").symlink_to("lib/a.py")
    first = fingerprint(host, str(folder))
    (folder / "lib" / "__pycache__").mkdir()
    (folder / "lib" / "__pycache__" / "a.pyc").touch()
    (folder / "environment.json").touch()
    assert fingerprint(host, str(folder)) == first
    seen = {first}
    then = (folder / "lib/a.py").stat()
    (folder / "lib/a.py").write_text("texts")
    os.utime(folder / "lib/a.py", ns=(then.st_atime_ns, then.st_mtime_ns))
    seen.add(fingerprint(host, str(folder)))
    (folder / "lib/a.py").write_text("TEXTS")
    os.utime(folder / "lib/a.py", ns=(1, 1))
    seen.add(fingerprint(host, str(folder)))
    (folder / "lib/b.py").unlink()
    seen.add(fingerprint(host, str(folder)))
    (folder / "link").unlink()
    (folder / "link").symlink_to("lib/x.py")
    seen.add(fingerprint(host, str(folder)))
    (folder / "lib/sitecustomize.py").touch()
    seen.add(fingerprint(host, str(folder)))
    assert len(seen) == 6


def test_a_record_that_cannot_be_read_is_not_intact() -> None:
    host = FakeHost()
    wanted = Environment("/opt/env", "/usr/bin/python3.11", "", EnvironmentState("key"))
    assert wanted.observe(host) is None
    host.put("/opt/env/environment.json", "nonsense")
    assert wanted.observe(host) == EnvironmentState("unreadable", False)


def test_an_environment_whose_python_is_gone_is_not_intact() -> None:
    """A release upgrade takes the interpreter; nothing inside the environment changes by that."""
    host = FakeHost()
    host.put("/usr/bin/python3.11", "an interpreter", 0o755)
    for path, target in (
        ("/opt/env/bin/python3", "python3.11"),
        ("/opt/env/bin/python3.11", "/usr/bin/python3.11"),
        ("/opt/env/bin/python", "python3"),
    ):
        host.mkdir("/opt/env/bin", mode=0o755, owner="root", group="root")
        host.symlink(path, target)
    assert has_python(host, "/opt/env")
    host.remove("/usr/bin/python3.11")
    assert not has_python(host, "/opt/env")
    host.symlink("/usr/bin/python3.11", "/opt/env/bin/python")
    assert not has_python(host, "/opt/env"), "a circle is no interpreter"


def test_its_key_is_of_all_it_is_made_of() -> None:
    keys = {
        lock_key("lock", "python3.11", ()),
        lock_key("lock2", "python3.11", ()),
        lock_key("lock", "python3.12", ()),
        lock_key("lock", "python3.11", ("plugin",)),
    }
    assert len(keys) == 4


def test_no_python_at_all_says_which_one_to_name() -> None:
    host = FakeHost()

    def uv(_: Call) -> Result:
        return Result(2, "", "error: No download found for request: cpython-3.11\n")

    host.programs["uv"] = uv
    host.script(["python3", "--version"], out="Python 3.13.5\n")
    with pytest.raises(OnPremError, match=r"there is no Python 3\.11") as caught:
        Environment("/opt/env", "3.11", "", EnvironmentState("key")).apply(host, None)
    assert 'python = "3.13"' in caught.value.hint
    assert "No download found" in caught.value.output


def test_a_lock_of_uvs_own_that_everybody_may_write_does_not_stay() -> None:
    """With it the environment just made was not as it should be, and every first install failed."""
    host = FakeHost()
    host.programs |= dict.fromkeys(("python", "find"), lambda _: Result(0, "/opt/env/lib\n", ""))

    def uv(call: Call) -> Result:
        if call.argv[1] == "venv":
            host.put("/opt/env/bin/python", "", 0o755)
            host.mkdir("/opt/env/lib", mode=0o755, owner="root", group="root")
            host.put("/opt/mlflow-onprem/python/.lock", "", 0o666)
        else:
            host.put("/opt/env/.lock", "", 0o666)
        return Result(0, "", "")

    host.programs["uv"] = uv
    made = Environment("/opt/env", "3.11", "", EnvironmentState("key"))
    made.apply(host, None)
    assert [path for path in host.nodes if path.endswith(".lock")] == []
