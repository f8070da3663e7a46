"""The verb `sandbox`."""
