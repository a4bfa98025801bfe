"""Connections: what checks and actions name in `connection:`. One model for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from remediator.settings.values import Address, Seconds, Section

Timeout = Annotated[Seconds, Field(gt=0, le=300)]
Secret = Annotated[SecretStr, Field(min_length=1)]
HttpAddress = Annotated[Address, Field(pattern=r"^https?://")]


class Basic(Section):
    """HTTP basic credentials."""

    username: str = Field(min_length=1)
    password: Secret


class _Http(Section):
    """What connections over HTTP have in common."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if getattr(self, "bearer", None) is not None and getattr(self, "basic", None) is not None:
            raise ValueError("bearer and basic are both given; give one of them")
        return self


class PrometheusConnection(_Http):
    """A Prometheus, or anything that speaks its query API."""

    kind: Literal["prometheus"] = "prometheus"
    url: HttpAddress
    """The base address, without /api/v1."""
    bearer: Secret | None = None
    """Token sent as `Authorization: Bearer`."""
    basic: Basic | None = None
    """Username and password; not together with bearer."""
    timeout: Timeout = 5.0
    """How long one query may take."""


class PostgresConnection(Section):
    """A PostgreSQL database."""

    kind: Literal["postgres"] = "postgres"
    dsn: Address
    """postgresql://user@host:port/database, or keywords as libpq takes them."""
    password: Secret | None = None
    """Kept apart from the DSN, so that the DSN can be shown."""
    timeout: Timeout = 5.0
    """How long connecting, and one statement, may take."""


class HttpConnection(_Http):
    """A service with an HTTP interface."""

    kind: Literal["http"] = "http"
    url: HttpAddress
    """The base address; checks and actions add paths to it, never another host."""
    bearer: Secret | None = None
    """Token sent as `Authorization: Bearer`."""
    basic: Basic | None = None
    """Username and password; not together with bearer."""
    timeout: Timeout = 5.0
    """How long one request may take."""


class AwsConnection(Section):
    """One region of one AWS account. Credentials come from the SDK's own chain."""

    kind: Literal["aws"] = "aws"
    region: str = Field(min_length=1)
    """Such as us-east-1."""
    account: str = Field(pattern=r"^[0-9]{12}$")
    """Twelve digits, quoted; the credentials must belong to it."""
    endpoint_url: HttpAddress | None = None
    """Another endpoint for every service, for tests."""
    profile: str | None = None
    """A profile of the AWS configuration files."""
    timeout: Timeout = 10.0
    """How long connecting, and reading one answer, may take."""


class GcpConnection(Section):
    """One Google Cloud project. Credentials are the application default ones."""

    kind: Literal["gcp"] = "gcp"
    project: str = Field(min_length=1)
    """The project's id."""
    endpoints: dict[str, str] = {}
    """Service name to host:port without TLS, for tests."""
    timeout: Timeout = 10.0
    """How long one call may take."""


class KubernetesConnection(Section):
    """One Kubernetes cluster."""

    kind: Literal["kubernetes"] = "kubernetes"
    context: str | None = None
    """A context of the kubeconfig; its current one if left out."""
    kubeconfig: Path | None = None
    """The kubeconfig file; the client's default if left out."""
    in_cluster: bool = False
    """Use the pod's own service account."""
    timeout: Timeout = 10.0
    """How long one call may take."""


Connection = Annotated[
    PrometheusConnection
    | PostgresConnection
    | HttpConnection
    | AwsConnection
    | GcpConnection
    | KubernetesConnection,
    Field(discriminator="kind"),
]
