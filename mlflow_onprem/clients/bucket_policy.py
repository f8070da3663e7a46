"""What the services' access key may do."""

from __future__ import annotations

from typing import Any


def bucket_policy(bucket: str) -> dict[str, Any]:
    """All of one bucket and nothing else. Both the bare ARN and its objects are named (advisory SN-2026-004)."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}],
    }
