"""A plugin for the command line's tests: one action, whose target is a number in a file."""
