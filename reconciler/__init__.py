"""Keeps exactly the worker processes running that you asked for."""

__version__ = "0.1.0"
