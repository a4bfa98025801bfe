"""A door in front of moto that can be made to stick: the same API, with faults."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request

from tests.fakes.http import Answer, FakeHttp, Request

_XML = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
    "<RequestId>0</RequestId></ErrorResponse>"
)


class FaultyAws(FakeHttp):
    """Passes every request on to `upstream`. Calls are named after their operation: `SetDesiredCapacity`.

    A fault's `text` is `Code: message`, as AWS names errors.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = upstream

    def name(self, request: Request) -> str:
        if target := request.headers.get("X-Amz-Target"):  # the JSON protocols
            return target.rpartition(".")[2]
        return urllib.parse.parse_qs(request.body.decode()).get("Action", [request.path])[0]

    def respond(self, request: Request) -> Answer:
        dropped = {"host", "content-length", "connection"}
        headers = {key: value for key, value in request.headers.items() if key.lower() not in dropped}
        onward = urllib.request.Request(
            self._upstream + request.path, request.body, headers, method=request.method
        )
        try:
            with urllib.request.urlopen(onward, timeout=20) as answer:
                return Answer(answer.status, answer.read(), answer.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers["Content-Type"])

    def failure(self, request: Request, status: int, text: str) -> Answer:
        code, _, message = text.partition(": ")
        if "X-Amz-Target" in request.headers:
            return Answer(status, json.dumps({"__type": code, "message": message}).encode())
        return Answer(status, _XML.format(code=code, text=message).encode(), "text/xml")
