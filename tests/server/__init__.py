"""Tests of what runs inside MLflow's own environment."""
