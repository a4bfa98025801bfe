"""remediator: the auto-remediation daemon that on-call teams trust while they sleep."""

__version__ = "0.1.0"
