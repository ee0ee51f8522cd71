"""Errors that leave the library: all of them are mistakes of the caller, none is of the master's making."""

from __future__ import annotations


class Dnp3Error(Exception):
    """Base of what this library raises."""


class ConfigurationError(Dnp3Error, ValueError):
    """A setting that the standard does not allow; says which and what is allowed."""
