"""New credentials: the same lists of resources converged once for each step from the old generation to the new one (credentials.Stage)."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import Interrupted, OnPremError, Refused
from mlflow_onprem.rotation import proof
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import GROUPS, Credentials, Stage
from mlflow_onprem.settings.topology import ExternalStore, LocalPostgres
from mlflow_onprem.stack import health, inputs
from mlflow_onprem.stack.assembly import Assembly, assemble
from mlflow_onprem.system.local_host import LocalHost

AGAIN = "run `sudo mlflow-onprem rotate-credentials` again (or install): it resumes from there"


@dataclass(frozen=True)
class Rotated:
    """Names of secrets, never a value: which are new, which old ones were tried and refused, which were left alone and why.

    `finished` is True where this was, first of all, the end of a rotation that had been interrupted.
    """

    rotated: tuple[str, ...]
    refused: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    finished: bool
    seconds: float


class TakenBack(OnPremError):
    """A rotation failed half-way and everything is as it was before it."""


@dataclass(frozen=True)
class Rotator:
    """One run: the host, its configuration and who watches."""

    host: LocalHost
    config: Config
    watch: engine.Watch
    stop: threading.Event

    def rotate(self, scope: Iterable[str]) -> Rotated:
        """Finish what was interrupted, then rotate what of `scope` that did not cover.

        Raises Refused before the first change, TakenBack after a failure while the old values still worked, OnPremError after one later.
        """
        begun = time.monotonic()
        wanted = tuple(scope)
        found = self._load()
        rotated: tuple[str, ...] = ()
        refused: tuple[str, ...] = ()
        if found.rotation is not None:
            covered = () if found.rotation.back else found.rotation.scope
            found, refused = self.finish(found)
            rotated, wanted = credentials_module.names(covered), tuple(group for group in wanted if group not in covered)
        finished = bool(rotated)
        skipped: list[tuple[str, str]] = []
        if wanted:
            new, skipped = self._new_values(found, wanted)
            changing = tuple(group for group in wanted if group not in dict(skipped))
            if not changing and not finished and len(wanted) == 1:
                raise Refused(f"{wanted[0]}: {skipped[0][1]}")
            if changing:
                found = self._changed_elsewhere(found, new, changing)
                # What is down or changed by hand is put right first: a rotation starts from a stack that works.
                self._converge(found)
                _, tried = self.finish(credentials_module.begin(found, changing, new))
                rotated, refused = (*rotated, *credentials_module.names(changing)), (*refused, *tried)
        return Rotated(rotated, refused, tuple(skipped), finished, time.monotonic() - begun)

    def finish(self, credentials: Credentials) -> tuple[Credentials, tuple[str, ...]]:
        """Take all steps that are left. Returns the credentials then in use, and which of the other generation were refused."""
        failure: OnPremError | None = None
        refused: list[str] = []
        while credentials.rotation is not None:
            stage, back = credentials.rotation.stage, credentials.rotation.back
            try:
                refused += self._step(credentials)
            except Interrupted:
                raise
            except OnPremError as failed:
                if self._load().rotation is None:  # not even written down, so nothing uses it
                    raise _taken_back(failed) from failed
                if back or stage not in (Stage.PENDING, Stage.CURRENT):
                    raise _half_way(failed, back=back, since=failure) from failed
                failure = failed
                credentials = credentials_module.roll_back(credentials)
            else:
                credentials = credentials_module.advance(credentials)
        self._converge(credentials)
        if failure is not None:
            raise _taken_back(failure) from failure
        return credentials, tuple(dict.fromkeys(refused))

    def _step(self, credentials: Credentials) -> list[str]:
        rotation = credentials.rotation
        assert rotation is not None
        assembly = self._converge(credentials)
        if rotation.stage is Stage.CURRENT:
            health.wait(self.host, assembly.to.systemd, assembly.probes())
            proof.in_use(assembly)
            return []
        return [] if rotation.stage is Stage.PENDING else proof.withdrawn(self.host, assembly)

    def _converge(self, credentials: Credentials) -> Assembly:
        assembly = assemble(self.host, self.config, credentials)
        try:
            engine.converge(self.host, assembly.stack, self.watch, self.stop)
        finally:
            assembly.close()
        return assembly

    def _load(self) -> Credentials:
        text = self.host.read(credentials_module.PATH)
        if text is None:
            raise Refused("there are no credentials yet: nothing is installed here", "sudo mlflow-onprem install")
        return credentials_module.parse(text.decode())

    def _changed_elsewhere(self, found: Credentials, new: Credentials, scope: Iterable[str]) -> Credentials:
        """Where a database that is not ours already wants the new password of the user's file, that is the one in use."""
        if isinstance(topology.postgres(self.config), LocalPostgres) or "postgres" not in scope:
            return found
        assembly = assemble(self.host, self.config, found)
        assembly.close()
        old_counts, new_counts = (proof.logs_in(self.host, assembly, each.postgres_password) for each in (found, new))
        return dataclasses.replace(found, postgres_password=new.postgres_password) if new_counts and not old_counts else found

    def _new_values(self, found: Credentials, scope: Iterable[str]) -> tuple[Credentials, list[tuple[str, str]]]:
        """Generated values, for services that are not ours those of the user's files; and the groups that have nothing to change to."""
        external = inputs.read(self.host, self.config)
        new, skipped = external.adopted(credentials_module.generate()), []
        for group in scope:
            fields = [name for each in GROUPS[group].values() for name in each]
            if group == credentials_module.ROOT and isinstance(topology.store(self.config.minio), ExternalStore):
                skipped.append((group, "the object store is not ours"))
            elif all(getattr(new, name) == getattr(found, name) for name in fields):
                place = self.config.minio.credentials_file if group == "s3" else self.config.postgres.password_file
                skipped.append((group, f"the service is not ours: put its new secret into {place}, then run this again"))
        return new, skipped


def finish_interrupted(host: LocalHost, config: Config, watch: engine.Watch, stop: threading.Event) -> bool:
    """For `install`: take the steps that an interrupted rotation left. Says whether there were any."""
    text = host.read(credentials_module.PATH)
    found = credentials_module.parse(text.decode()) if text is not None else None
    if found is None or found.rotation is None:
        return False
    Rotator(host, config, watch, stop).finish(found)
    return True


def _taken_back(failed: OnPremError) -> TakenBack:
    text = f"nothing was rotated: {failed.message}. Every secret is what it was before, and no new one is accepted"
    return TakenBack(text, failed.hint, failed.output)


def _half_way(failed: OnPremError, *, back: bool, since: OnPremError | None) -> OnPremError:
    if back:
        first = f" It was being rolled back because: {since.message}" if since is not None else ""
        failed.message = f"{failed.message}. The old secrets work; not all new ones are withdrawn yet.{first}"
    else:
        failed.message = f"{failed.message}. The new secrets are in use and work; not all old ones are withdrawn yet"
    failed.hint = f"{failed.hint}; then {AGAIN}" if failed.hint else AGAIN
    failed.args = (failed.message,)
    return failed
