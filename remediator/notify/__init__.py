"""Tells people: takes messages from the outbox and hands them to notifiers.

`outbox` drains, `text` makes a message fit to be read, `log` and `apprise` are the notifiers.

It must not decide who is called or why (the engine writes the message, the policies name the
chain), and nothing may wait for it: a notifier that is dead delays its own messages only.
"""
