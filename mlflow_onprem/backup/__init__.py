"""Backups: where they are kept, what one holds, and the parts that `commands/backup.py` and `commands/restore.py` put together.

A repository is a folder or an S3 prefix: `objects/` is a pool of artifacts by sha256 shared by all backups, `backups/ID/` what is of one backup only.
A backup exists once its `manifest.json`, written last, is there.
"""
