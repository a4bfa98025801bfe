"""The policy language: texts in, a validated and indexed `PolicySet` out.

Reads YAML with positions (`document`), validates it (`schema`, `uses`), compiles matchers into an
index (`matcher`, `index`), substitutes labels into selectors (`template`).

It must not do any of these: ask the clock, the network or the environment; write anything but the
optional cache of validated forms; guess where a file is wrong. Every fault is reported with file,
line and column, all of them at once.
"""
