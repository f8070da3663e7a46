"""The verb `db-role`."""
