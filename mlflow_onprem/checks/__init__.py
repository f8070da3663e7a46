"""What preflight asks of a host, a subject a file."""
