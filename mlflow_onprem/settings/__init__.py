"""What the administrator set, what was generated, and what this host is."""
