"""Makes the try-out's passwords and tokens, once; what is there already is kept."""

import secrets
import sys
from pathlib import Path

NAMES = (
    "ALERTMANAGER_TOKEN",
    "OPERATOR_TOKEN",
    "ORDERS_PASSWORD",
    "WATCHER_PASSWORD",
    "POSTGRES_PASSWORD",
    "AUDIT_KEY",
)

directory = Path(sys.argv[1])
directory.chmod(0o755)
for name in NAMES:
    file = directory / name
    if not file.exists():
        file.write_text(secrets.token_urlsafe(32))
        file.chmod(0o444)  # read by five containers, each with a user of its own; nobody else has the volume
