"""The verb `restore`."""
