"""Simulated devices, made from an endpoint file."""
