"""One kind of resource per file."""
