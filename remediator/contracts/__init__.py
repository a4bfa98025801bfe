"""The contracts that the parts of remediator have with each other. No implementation here.

The engine knows only these. Actions, checks, receivers and notifiers are written against them
and do not know each other; `wiring` is the one place that names concrete classes.
"""

from remediator.contracts.action import (
    NEVER,
    Action,
    ConnectionOf,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.contracts.admission import ALWAYS, Admission, Arrivals, Flapping, Held, Limit, Slot, Surge
from remediator.contracts.approvals import Approvals
from remediator.contracts.brakes import Brakes
from remediator.contracts.check import Catalogue, Check
from remediator.contracts.clock import Clock, Jumping, SteadyTime
from remediator.contracts.incidents import IncidentChange, Incidents
from remediator.contracts.intake import Claimant, Delivery, Intake, Match, Opening, Receipt
from remediator.contracts.move import Breaker, Declaration, IntentUpdate, Move, NewEffect
from remediator.contracts.notifier import Notifier
from remediator.contracts.outbox import NotifierState, Outbox, Outgoing
from remediator.contracts.receiver import Bad, Parsed, Receiver
from remediator.contracts.revisions import Revision, Revisions
from remediator.contracts.runs import Facts, Runs
from remediator.contracts.store import LOOK, Health, Hint, Store
from remediator.contracts.trail import SealReport, Trail

__all__ = [
    "ALWAYS",
    "LOOK",
    "NEVER",
    "Action",
    "Admission",
    "Approvals",
    "Arrivals",
    "Bad",
    "Brakes",
    "Breaker",
    "Catalogue",
    "Check",
    "Claimant",
    "Clock",
    "ConnectionOf",
    "Context",
    "Declaration",
    "Delivery",
    "Facts",
    "Flapping",
    "Health",
    "Held",
    "Hint",
    "Idempotency",
    "IncidentChange",
    "Incidents",
    "Intake",
    "IntentUpdate",
    "Jumping",
    "Limit",
    "Match",
    "Move",
    "NewEffect",
    "Nothing",
    "Notifier",
    "NotifierState",
    "Observed",
    "Opening",
    "Outbox",
    "Outgoing",
    "Params",
    "Parsed",
    "Permission",
    "Receipt",
    "Receiver",
    "Revision",
    "Revisions",
    "Runs",
    "SealReport",
    "Selector",
    "Settled",
    "Slot",
    "SteadyTime",
    "Store",
    "Surge",
    "Trail",
]
