"""This machine: processes, files, systemd, apt, ports, the network."""
