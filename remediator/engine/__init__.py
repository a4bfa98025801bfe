"""The engine: takes a run from one state to the next.

It decides (pure functions of values, the time passed in), it alone performs (`execute`), and it
commits each move with its audit events through the store's contract. It knows no SDK, no SQL and
no web framework.
"""
