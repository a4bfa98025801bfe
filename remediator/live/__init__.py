"""What replicas tell each other for comfort, through Redis where there is one: how many bodies each
sender has posted (`flood`), and what has just changed (`hub`), for pages that show it live.

Nothing here is an authority. No lock, budget or decision of the engine may ask this package, nothing in it
waits for Redis while a request waits, and without Redis each process goes on by what it knows itself.
"""
