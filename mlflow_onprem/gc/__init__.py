"""The verb `gc`."""
