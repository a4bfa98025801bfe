"""A plugin: shipped actions whose lost calls land within seconds, so that a test can wait for it."""
