"""Backups as text for people and as JSON for scripts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_onprem.backup.summary import age
from mlflow_onprem.core.render import size

if TYPE_CHECKING:
    from mlflow_onprem.backup.catalog import Listed, Pruned
    from mlflow_onprem.backup.create import Created
    from mlflow_onprem.backup.manifest import Manifest, Proof
    from mlflow_onprem.backup.verify import Verified


def created_json(made: Created) -> dict[str, Any]:
    """What `backup create` made."""
    return {"id": made.manifest.id, "address": made.address, "retries": made.retries, **_backup(made.manifest, None)}


def created_text(made: Created) -> str:
    """The same for people, and what to do next."""
    found = made.manifest
    lines = [
        f"backup {found.id} in {made.address}: {found.objects.count} objects, {size(found.objects.bytes)} "
        f"({found.objects.new_count} new, {size(found.objects.new_bytes)}), in {found.seconds:.1f} s",
    ]
    if found.objects.beside:
        hider, key = made.hidden[0] if made.hidden else ("", "")
        example = f" ({key} below {hider})" if key else ""
        lines.append(
            f"{found.objects.beside} of the objects are hidden in every listing by a file that has their folder's name{example}; "
            "the backup has them. Which they are, and what to do: sudo mlflow-onprem doctor"
        )
    if found.encryption == "none":
        lines.append("it holds this host's secrets as they are, in a folder that only root may read; --passphrase-file or --recipient encrypts them")
    lines.append(f"prove it: sudo mlflow-onprem backup verify {found.id} --boot")
    return "\n".join(lines)


def listed_json(found: Listed) -> dict[str, Any]:
    """All backups, oldest first."""
    return {
        "address": found.address,
        "backups": [_backup(each, proof) for each, proof in found.backups],
        "unfinished": list(found.unfinished),
        "unreadable": list(found.unreadable),
    }


def listed_text(found: Listed, now: datetime) -> str:
    """A line a backup, the newest last."""
    unreadable = f"its manifest cannot be read by this release: {', '.join(found.unreadable)}"
    if not found.backups and found.unreadable:
        return unreadable
    if not found.backups:
        return f"no backups in {found.address}. Make one: sudo mlflow-onprem backup create"
    lines = [f"{'backup':<22} {'age':<12} {'objects':>9} {'size':>10} {'encrypted':<11} proven"]
    for each, proof in found.backups:
        total = each.objects.bytes + sum(file.size for file in each.files.values())
        lines.append(
            f"{each.id:<22} {age(now - each.created):<12} {each.objects.count:>9} {size(total):>10} {each.encryption:<11} "
            + (f"{age(now - proof.when)} ago" if proof else "no")
        )
    newest, proof = found.backups[-1]
    lines += [
        "",
        f"the newest is {age(now - newest.created)} old" + ("" if proof else f"; prove it: sudo mlflow-onprem backup verify {newest.id} --boot"),
    ]
    if found.unfinished:
        lines.append(f"unfinished, removed by the next backup: {', '.join(found.unfinished)}")
    lines += [unreadable] if found.unreadable else []
    return "\n".join(lines)


def verified_json(found: Verified) -> dict[str, Any]:
    """What was read and compared."""
    proof = found.proof.model_dump(mode="json") if found.proof else None
    return {
        "id": found.id, "address": found.address, "files": found.files, "objects": found.objects, "bytes": found.bytes,
        "damaged": list(found.damaged), "seconds": found.seconds, "proven": proof is not None, "proof": proof,
        "complete": False if found.lacking else None if found.unsure else True, "lacking": list(found.lacking), "unsure": found.unsure,
    }  # fmt: skip


def verified_text(found: Verified) -> str:
    """The same for people."""
    read = f"{found.files} files and {found.objects} objects, {size(found.bytes)}, read in {found.seconds:.1f} s"
    text = f"backup {found.id}: {read}; every checksum is right"
    if found.damaged:
        rows = [f"    {each}" for each in found.damaged[:20]]
        return "\n".join(
            [f"backup {found.id} is damaged:", *rows, "the next `backup create` copies what is damaged again, where the bucket still has it"]
        )
    if found.lacking:
        rows = [f"    {each}" for each in found.lacking[:20]]
        more = [f"    and {len(found.lacking) - 20} more"] if len(found.lacking) > 20 else []
        return "\n".join(
            [
                f"backup {found.id} is incomplete: {len(found.lacking)} objects that were in the bucket when it was made are not in it:",
                *rows,
                *more,
                "what is in it is right, and can be restored; these cannot, not from this backup. The next `backup create` has them: make one now. "
                "Which files are hidden, and what to do about it: sudo mlflow-onprem doctor",
            ]
        )
    if found.unsure:
        text += f"\nwhether it is complete is not known: {found.unsure}"
    elif found.compared:
        text += "; nothing that is in the bucket since before it was made is missing in it"
    if found.proof is None:
        return f"{text}\nthat is not a proof: `sudo mlflow-onprem backup verify {found.id} --boot` restores it into a disposable host and compares"
    each = found.proof
    return (
        f"{text}\nproven: restored into a disposable host in {each.seconds:.0f} s; the same {each.rows} rows in {each.tables} tables, "
        f"{each.runs} runs through MLflow's own API with their metrics, {each.artifacts} artifacts ({size(each.artifact_bytes)}) byte for byte"
    )


def pruned_json(found: Pruned) -> dict[str, Any]:
    """What `backup prune` removed."""
    return {"address": found.address, "removed": list(found.removed), "kept": list(found.kept), "freed_bytes": found.freed}


def pruned_text(found: Pruned) -> str:
    """The same for people."""
    if not found.removed:
        return f"nothing to remove: all {len(found.kept)} backups in {found.address} are kept by the rules"
    return f"removed {', '.join(found.removed)} ({size(found.freed)} freed); {len(found.kept)} kept"


def _backup(found: Manifest, proof: Proof | None) -> dict[str, Any]:
    kept = found.model_dump(mode="json", include={"id", "created", "seconds", "host", "mlflow", "postgres", "encryption", "objects", "databases"})
    return {
        **kept,
        "bytes": found.objects.bytes + sum(each.size for each in found.files.values()),
        "proven": proof.model_dump(mode="json") if proof else None,
    }
