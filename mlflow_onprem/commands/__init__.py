"""Verbs that are more than one call of the engine. Each returns a frozen result; nothing here prints."""
