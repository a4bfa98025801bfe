"""Real daemon processes that are killed, against a provider that records every call."""
