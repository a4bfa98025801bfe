"""A plugin: actions for the crash tests."""
