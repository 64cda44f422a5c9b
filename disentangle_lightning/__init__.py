"""Separate what was said from how it was said in frozen speech encoders."""

__version__ = "0.1.0"
