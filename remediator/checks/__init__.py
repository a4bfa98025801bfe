"""Checks: one signal each, read once. One module for each source.

Every concrete `contracts.Check` in a module here is found by scan (`remediator.catalogue`). How to add
one: docs/writing-a-check.md.

What must not happen here: changing anything, inventing a value (no data is an empty reading, never
zero), importing an SDK or another check, and putting an alert's text into a query unescaped.
"""
