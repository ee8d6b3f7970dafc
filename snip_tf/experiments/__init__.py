"""Runs by their settings, and the figures and tables of the paper."""
