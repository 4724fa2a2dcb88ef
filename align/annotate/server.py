"""The server: a socket of our own, uvicorn on it, and an orderly end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from align.annotate.guard import HEADERS
from align.annotate.settings import LOOPBACK
from align.errors import ConfigError, Terminated

if TYPE_CHECKING:
    from align.annotate.guard import Guard
    from align.annotate.settings import AnnotateSettings

GRACE = 5
"""Seconds that open requests have at the end."""
KEEP_ALIVE = 75
"""Seconds that an idle connection stays: longer than it takes to read two replies and choose."""


def listen(settings: AnnotateSettings) -> socket.socket:
    """A bound socket, so that the port is known (and free) before anything is said.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise ConfigError(
            f"annotate.host={settings.host} annotate.port={settings.port} cannot be listened on "
            f"({error.strerror}): annotate.port=0 takes a free one"
        ) from error
    return found


def origins(settings: AnnotateSettings, port: int) -> list[str]:
    """The addresses that people may type, the one to show first; every other Host is refused."""
    if settings.public_url is not None:
        scheme, _, rest = settings.public_url.partition("://")
        return [f"{scheme}://{rest.split('/')[0].lower()}"]
    names = [settings.host, *(host for host in LOOPBACK if host != settings.host)]
    # a browser leaves the port out where it is the usual one
    at = "" if port == 80 else f":{port}"
    return [f"http://[{name}]{at}" if ":" in name else f"http://{name}{at}" for name in names]


class Protocol(H11Protocol):
    """Dresses the one answer that is given before any app is asked: to what is no HTTP."""

    def send_400_response(self, msg: str) -> None:
        """A refusal with the headers that every response has."""
        headers = {
            **HEADERS,
            "content-type": "text/plain",
            "cache-control": "no-store",
            "connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{lines}\r\n{msg}\n".encode("ascii", "replace"))
        self.transport.close()


def server(app: Guard, settings: AnnotateSettings) -> uvicorn.Server:
    """Uvicorn with what this app needs of it."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        # who connects is taken from a proxy's word only where there is a proxy
        proxy_headers=settings.public_url is not None,
        forwarded_allow_ips="127.0.0.1",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def serve(app: Guard, listening: socket.socket, settings: AnnotateSettings) -> Terminated | None:
    """Serves until Ctrl-C or SIGTERM; returns the ``Terminated`` of the latter for the caller to raise."""
    try:
        server(app, settings).run(sockets=[listening])
    except KeyboardInterrupt:
        return None
    except Terminated as end:
        return end
    finally:
        listening.close()
    return None
