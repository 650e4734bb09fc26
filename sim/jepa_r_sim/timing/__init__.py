"""Bounds on time."""
