"""The verb `bundle`."""
