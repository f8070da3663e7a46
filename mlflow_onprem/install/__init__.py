"""The verb `install`, and `plan` which only shows it."""
