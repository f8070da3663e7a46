"""HTTP connections that end without a lost request when their worker is replaced.

uvicorn closes every idle connection at once; a client that is just sending its next request over it
sees a reset, and MLflow's client does not send a "create run" twice. Here a retiring worker answers
that next request, says `Connection: close` with it, and the client goes on with another worker.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Key of a request's scope: a function that ends its connection at once, also where the client takes no more bytes.
ABORT = "mlflow_onprem.abort"
# How long a retiring worker waits for the next request on an idle connection.
IDLE_SECONDS = 5


class DrainingProtocol(HttpToolsProtocol):  # type: ignore[misc]
    """uvicorn's protocol with a shutdown that waits for idle connections."""

    _draining = False

    def shutdown(self) -> None:
        """Close the connection with the next answer, or when no request comes."""
        self._draining = True
        self.timeout_keep_alive = IDLE_SECONDS
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        """Start the request; while draining, it is the connection's last one."""
        super().on_headers_complete()
        self.scope[ABORT] = self.transport.abort
        if self._draining:
            self.cycle.keep_alive = False
