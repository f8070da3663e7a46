"""The verb `client-env`."""
