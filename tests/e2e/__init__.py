"""Whole paths: a sender's HTTP request in, a real daemon process, a provider behind its real client library.

One file for each rule that ships, and for what must hold around all of them. The tests use what a user
has: a settings file, the shipped policies, the webhook, the API and the command line.
"""
