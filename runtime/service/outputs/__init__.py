"""Outputs of the service, each with its own thread."""
