"""Deployment settings: where the daemon listens, stores, and whom it talks to.

`load` reads `remediator.yaml`, the environment and the secrets directory; nothing else in the
package reads the environment. A value that cannot be used refuses to start. Bounds on what actions
may do are not settings: they are policies, which a reviewer sees.
"""

from remediator.settings.approvals import Approvals
from remediator.settings.connections import (
    AwsConnection,
    Basic,
    Connection,
    GcpConnection,
    HttpConnection,
    KubernetesConnection,
    PostgresConnection,
    PrometheusConnection,
)
from remediator.settings.load import load
from remediator.settings.notifications import Audiences, Notifications
from remediator.settings.roles import Role
from remediator.settings.root import Settings
from remediator.settings.sections import (
    Access,
    Audit,
    Engine,
    Log,
    NotifierSettings,
    Policies,
    Retention,
    Server,
    StoreSettings,
    Token,
)
from remediator.settings.senders import SEVERITIES, Auth, Sender, Value
from remediator.settings.values import Address

__all__ = [
    "SEVERITIES",
    "Access",
    "Address",
    "Approvals",
    "Audiences",
    "Audit",
    "Auth",
    "AwsConnection",
    "Basic",
    "Connection",
    "Engine",
    "GcpConnection",
    "HttpConnection",
    "KubernetesConnection",
    "Log",
    "Notifications",
    "NotifierSettings",
    "Policies",
    "PostgresConnection",
    "PrometheusConnection",
    "Retention",
    "Role",
    "Sender",
    "Server",
    "Settings",
    "StoreSettings",
    "Token",
    "Value",
    "load",
]
