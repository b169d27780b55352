"""The limits of the server, each an environment variable: GENDRPIX_ and the field's name in capitals.

The defaults are meant for a public page on a machine with 2 to 4 cores and 16 GB of memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

LOG_FORMATS = ("text", "json")
MAY_BE_ZERO = ("trusted_proxies", "min_free_mb")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the server lets visitors do. All numbers are whole ones, 1 or more but for those in MAY_BE_ZERO."""

    max_queue: int = 40
    """Jobs that may wait; the next one is refused until there is room."""
    max_jobs_per_client: int = 16
    """Jobs of one client that may wait or run. The page itself has several small ones at a time."""
    max_requests_per_minute: int = 600
    """Of one client, not counting the page's own scripts and styles."""
    max_open_per_client: int = 64
    """Requests of one client that may be open at a time; an open tab holds one or two, one that loads up to 12."""
    max_file_mb: int = 100
    """One uploaded file."""
    max_upload_mb: int = 400
    """One upload request, which may bring several files."""
    max_json_kb: int = 1024
    """The body of any other request."""
    max_pixels: int = 50_000_000
    """Width times height of a photo."""
    max_output_pixels: int = 100_000_000
    """Width times height of a result."""
    max_job_s: int = 900
    """Seconds after which a run is ended."""
    max_sessions: int = 200
    """Visitors whose state is kept; the one longest unused goes first."""
    min_free_mb: int = 1000
    """Uploads are refused while the disk of the temporary folder has less free space."""
    keep_s: int = 86_400
    """Seconds after which uploads and results are deleted."""
    unheard_s: int = 120
    """Seconds after which a job is dropped whose client has never asked for the answer."""
    stop_s: int = 20
    """Seconds that a running job has to finish when the server is asked to stop."""
    trusted_proxies: int = 0
    """Proxies in front whose X-Forwarded-* headers are believed; 0: such headers are removed."""
    allowed_hosts: str = ""
    """Host names, separated by commas, that a request may name; empty: see `host_names`."""
    log_format: str = "text"
    """"text" or "json", one object a line."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in MAY_BE_ZERO else 1
            if isinstance(value, int) and value < least:
                raise ValueError(f"{variable(field.name)} is {value}; give {least} or more.")
        if self.log_format not in LOG_FORMATS:
            raise ValueError(f"{variable('log_format')} is {self.log_format!r}; give {' or '.join(LOG_FORMATS)}.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings that the variables give. Raises ValueError naming the variable that is wrong."""
        given: dict[str, Any] = {}
        for field in fields(cls):
            text = environment.get(variable(field.name), "").strip()
            if not text:
                continue
            if isinstance(field.default, int):
                try:
                    given[field.name] = int(text)
                except ValueError:
                    raise ValueError(f"{variable(field.name)} is {text!r:.40}; give a whole number.") from None
            else:
                given[field.name] = text
        return cls(**given)

    def host_names(self, server_name: str) -> frozenset[str]:
        """The host names that requests may carry; empty: any.

        A server that only this machine reaches answers to this machine's own names alone, so that a hostile page in
        the browser cannot reach it under another name (DNS rebinding).
        """
        named = {name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip()}
        if named:
            return frozenset(named - {"*"}) if "*" not in named else frozenset()
        local = {"localhost", "127.0.0.1", "::1"}
        return frozenset(local) if server_name in local else frozenset()


def variable(name: str) -> str:
    """The environment variable of a field."""
    return f"GENDRPIX_{name.upper()}"


@cache
def server_settings() -> ServerSettings:
    """This process's settings, read once. Raises ValueError naming the variable that is wrong."""
    return ServerSettings.from_environment(os.environ)
