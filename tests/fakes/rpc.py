"""A small gRPC server whose answers can go wrong; the base of the fakes that speak gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from tests.fakes.faults import Call, Fault, Faults


class Rejected(Exception):
    """The service's answer is this status.

    Args:
        code: the name of a gRPC status: `NOT_FOUND`.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


Method = tuple[Callable[[Any], Any], Any, Any]
"""What carries a request out, and the classes of request and response (proto-plus or plain)."""


class FakeRpc:
    """Serves on a free port of 127.0.0.1, without TLS. Calls are named after their method: `UpdateService`.

    A fault's answer is the name of a gRPC status, or `hang`, or `reset` (the line is cut: clients see
    UNAVAILABLE).

    Args:
        services: full name of a service → its methods.
    """

    def __init__(self, services: Mapping[str, Mapping[str, Method]]) -> None:
        self.faults = Faults()
        self._threads = ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(self._threads)
        for service, methods in services.items():
            handlers = {name: self._handler(name, method) for name, method in methods.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def address(self) -> str:
        """host:port, as an entry of a GCP connection's `endpoints`."""
        return f"127.0.0.1:{self._port}"

    @property
    def calls(self) -> list[Call]:
        return self.faults.calls

    def _handler(self, name: str, method: Method) -> grpc.RpcMethodHandler:
        work, request_class, response_class = method

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            fault = self.faults.arrived(name, request)
            try:
                if fault is None:
                    return work(request)
                self._apply(fault, lambda: work(request))
                if fault.answer == "hang":
                    self.faults.hang()
                code = "UNAVAILABLE" if fault.answer in ("hang", "reset") else str(fault.answer)
                raise Rejected(code, fault.text)
            except Rejected as error:
                context.abort(grpc.StatusCode[error.code], str(error))

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=_reader(request_class),
            response_serializer=_writer(response_class),
        )

    def _apply(self, fault: Fault, work: Callable[[], Any]) -> None:
        def quietly() -> None:
            with suppress(Rejected):  # nobody is told
                work()

        if fault.applies and fault.late:
            self.faults.later(fault.late, quietly)
        elif fault.applies:
            quietly()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def close(self) -> None:
        self.faults.close()
        self._server.stop(grace=None).wait()
        self._threads.shutdown()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reader(kind: Any) -> Callable[[bytes], Any]:
    return kind.deserialize if hasattr(kind, "deserialize") else kind.FromString


def _writer(kind: Any) -> Callable[[Any], bytes]:
    return kind.serialize if hasattr(kind, "serialize") else kind.SerializeToString
