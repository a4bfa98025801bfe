"""Incidents: what is due, who is told what, until somebody has it."""
