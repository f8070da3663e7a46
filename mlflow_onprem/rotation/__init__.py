"""The verb `rotate-credentials`."""
