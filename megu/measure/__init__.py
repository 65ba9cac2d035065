"""Patterns and entanglement; metrics, attacks and distances; means over seeds."""
