"""The words of the domain as frozen values. No I/O, no clock, no policy.

Instants are integer milliseconds since 1970-01-01 UTC; spans are integer milliseconds.
Everything the store keeps as JSON is one of these structs, encoded by msgspec.
"""

from remediator.model.alert import MANUAL, Alert, Episode, Status
from remediator.model.approval import Approval, Decision
from remediator.model.audit import AuditEvent, AuditRecord
from remediator.model.budget import Budget
from remediator.model.control import Control, ControlKind
from remediator.model.effect import LEFT_TO_PERSON, Effect
from remediator.model.incident import Incident, IncidentProgress, Severity
from remediator.model.intent import Intent, IntentKind, IntentOutcome, Landed, token
from remediator.model.message import DAEMON, Message
from remediator.model.plan import Blast, Plan, Risk, Target, flat
from remediator.model.reading import Reading, Sample
from remediator.model.reason import Reason, Verdict
from remediator.model.run import BEFORE_ADMIT, Mode, Origin, Outcome, Progress, Run, State
from remediator.model.time import DAY, HOUR, JUMP, MINUTE, SECOND, Instant, Millis, moment, span
from remediator.model.value import AlertId, IncidentId, RunId, Struct

__all__ = [
    "BEFORE_ADMIT",
    "DAEMON",
    "DAY",
    "HOUR",
    "JUMP",
    "LEFT_TO_PERSON",
    "MANUAL",
    "MINUTE",
    "SECOND",
    "Alert",
    "AlertId",
    "Approval",
    "AuditEvent",
    "AuditRecord",
    "Blast",
    "Budget",
    "Control",
    "ControlKind",
    "Decision",
    "Effect",
    "Episode",
    "Incident",
    "IncidentId",
    "IncidentProgress",
    "Instant",
    "Intent",
    "IntentKind",
    "IntentOutcome",
    "Landed",
    "Message",
    "Millis",
    "Mode",
    "Origin",
    "Outcome",
    "Plan",
    "Progress",
    "Reading",
    "Reason",
    "Risk",
    "Run",
    "RunId",
    "Sample",
    "Severity",
    "State",
    "Status",
    "Struct",
    "Target",
    "Verdict",
    "flat",
    "moment",
    "span",
    "token",
]
