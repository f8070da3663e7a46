"""Disposable real systemd hosts on this machine, by systemd-nspawn on overlay mounts.

`prepare` makes a base tree, `Sandbox.start` boots a host on it in under a second, `Sandbox.snapshot` turns a host into a layer for many others.
"""

from mlflow_onprem_sandbox.hosts import Sandbox, remove_network_if_unused, teardown
from mlflow_onprem_sandbox.layers import Layer, find, keep_newest, prepare, state_dir
from mlflow_onprem_sandbox.tools import install_tools, missing_tools

__all__ = [
    "Layer",
    "Sandbox",
    "find",
    "install_tools",
    "keep_newest",
    "missing_tools",
    "prepare",
    "remove_network_if_unused",
    "state_dir",
    "teardown",
]
