"""One region of one AWS account: any service's operations, as the SDK names them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from remediator.errors import ActionError, Ambiguous, Permanent, Temporary

if TYPE_CHECKING:
    from boto3.session import Session

    from remediator.settings import AwsConnection

Answer = dict[str, Any]

THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "PriorRequestNotComplete",
        "SlowDown",
        "EC2ThrottledException",
    }
)
"""Refused for their rate, whatever the status: botocore's own list (botocore.retries.standard)."""

PASSING = frozenset(
    {
        "ScalingActivityInProgress",
        "ScalingActivityInProgressFault",
        "ResourceContention",
        "ResourceContentionFault",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
    }
)
"""Refused for now, and provably not applied, although some of them are answered with status 500.
Auto Scaling API reference, errors of SetDesiredCapacity; AWS common errors."""


class AwsClient:
    """Reads and changes of one account in one region.

    Credentials are found by the SDK's own chain (environment, profile, role of the machine or pod), and
    must belong to the account that settings name: nothing is called before that was verified once.
    The SDK's retries are off: what may be repeated is the engine's decision.
    """

    def __init__(self, name: str, settings: AwsConnection, session: Session) -> None:
        self.name = name
        self.account = settings.account
        self.region = settings.region
        self._settings = settings
        self._session = session
        self._services: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._verified = False

    @classmethod
    def connect(cls, name: str, settings: AwsConnection) -> Self:
        """Make the client; AWS is reached with the first call.

        Raises:
            ImportError: boto3 is not installed.
            Permanent: the profile does not exist.
        """
        from boto3.session import Session
        from botocore.exceptions import BotoCoreError

        try:
            session = Session(profile_name=settings.profile, region_name=settings.region)
        except BotoCoreError as error:
            raise Permanent(f"connection {name!r}: {error}") from error
        return cls(name, settings, session)

    def identity(self) -> str:
        """The account and the region: `123456789012/us-east-1`.

        Asks AWS whom the credentials belong to (sts:GetCallerIdentity, which needs no permission), once.

        Raises:
            Permanent: they belong to another account, or there are none.
            Temporary: AWS did not answer.
        """
        if not self._verified:
            with self._errors("sts", "get_caller_identity", changes=False):
                account = self._service("sts").get_caller_identity()["Account"]
            if account != self.account:
                raise Permanent(
                    f"connection {self.name!r}: its credentials belong to account {account}, but settings "
                    f"say {self.account}; correct `account` or the credentials"
                )
            self._verified = True
        return f"{self.account}/{self.region}"

    def read(self, service: str, operation: str, **params: Any) -> Answer:
        """Call an operation that changes nothing.

        Args:
            service: as boto3 names it: `autoscaling`.
            operation: as boto3 names its method: `describe_auto_scaling_groups`.
            params: as the API reference names them.

        Raises:
            Temporary: throttled, out of reach, too slow, or failing on AWS's side.
            Permanent: denied, no such thing, wrong parameters.
        """
        return self._call(service, operation, params, changes=False)

    def change(self, service: str, operation: str, **params: Any) -> Answer:
        """Call an operation that changes something, once.

        Raises:
            Temporary, Permanent: provably nothing was changed.
            Ambiguous: it was sent, and the answer is lost or does not tell.
        """
        return self._call(service, operation, params, changes=True)

    def close(self) -> None:
        with self._lock:
            for service in self._services.values():
                service.close()
            self._services.clear()

    def _call(self, service: str, operation: str, params: dict[str, Any], *, changes: bool) -> Answer:
        self.identity()
        with self._errors(service, operation, changes=changes):
            answer: Answer = getattr(self._service(service), operation)(**params)
        return answer

    def _service(self, service: str) -> Any:
        from botocore.config import Config

        with self._lock:  # boto3: clients may be shared by threads, sessions may not
            if service not in self._services:
                config = Config(
                    connect_timeout=self._settings.timeout,
                    read_timeout=self._settings.timeout,
                    retries={"total_max_attempts": 1},
                    user_agent_extra="remediator",
                )
                self._services[service] = self._session.client(
                    service,  # type: ignore[call-overload, unused-ignore]
                    endpoint_url=self._settings.endpoint_url,
                    config=config,
                )
            return self._services[service]

    # ------------------------------------------------------------ errors

    @contextmanager
    def _errors(self, service: str, operation: str, *, changes: bool) -> Iterator[None]:
        from botocore import exceptions as sdk

        what = f"aws:{self.name}: {service} {operation}"
        unclear = Ambiguous if changes else Temporary
        try:
            yield
        except sdk.ClientError as error:
            raise self._answered(what, error.response, unclear) from error
        except (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError) as error:
            raise Temporary(f"{what}: no connection: {error}") from error
        except (sdk.CredentialRetrievalError, sdk.MetadataRetrievalError, sdk.TokenRetrievalError) as error:
            raise Temporary(f"{what}: no credentials for now: {type(error).__name__}") from error
        except (
            sdk.NoCredentialsError,
            sdk.PartialCredentialsError,
            sdk.NoRegionError,
            sdk.ParamValidationError,
            sdk.UnknownServiceError,
        ) as error:  # all raised before anything is sent
            raise Permanent(f"{what}: {error}") from error
        except sdk.BotoCoreError as error:  # read time-out, reset connection, an answer that is no answer
            raise unclear(f"{what}: the answer is lost: {type(error).__name__}") from error

    def _answered(self, what: str, response: Any, unclear: type[ActionError]) -> ActionError:
        fault = response.get("Error", {})
        code = str(fault.get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # what came back may be no answer of AWS at all but some proxy's page
        text = f"{what}: {code[:100] or status}: {str(fault.get('Message', ''))[:300]}".rstrip(": ")
        if code in THROTTLED or code in PASSING or status == 429:
            return Temporary(text)
        if 400 <= status < 500:
            return Permanent(text)
        return unclear(text)
