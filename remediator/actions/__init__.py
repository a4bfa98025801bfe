"""Actions: the bounded changes that a policy may ask for. One module for each system.

Every concrete `contracts.Action` in a module here is found by scan (`remediator.catalogue`); there is
no list to keep. How to add one: docs/writing-an-action.md.

What must not happen here: deciding (rate limits, approvals, retries, modes), importing an SDK (that is
what `remediator.clients` is for), importing another action, and a parameter without a hard upper bound.
"""
