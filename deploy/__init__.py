"""What it takes to run the daemon: systemd, Compose, and what the chart is generated from.

Nothing here is imported by the daemon.
"""
