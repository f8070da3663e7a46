"""The verb `status`."""
