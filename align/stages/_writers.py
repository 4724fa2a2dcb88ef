"""Who writes, opened with its origin noted in run.json: a policy in this process, or one behind a server."""

from __future__ import annotations

from contextlib import ExitStack

from align.collect._bench import OpenWriter, Writer
from align.collect._writers import LocalWriter, ServedWriter, kept_replies
from align.generation.address import ServerSettings
from align.generation.server import open_server
from align.models.settings import ModelSettings
from align.run import Run
from align.settings import SamplingSettings
from align.stages._common import open_to_sample


def writer_opener(run: Run, sampling: SamplingSettings, closing: ExitStack) -> OpenWriter:
    """What opens writers for a run; their servers are closed with ``closing``."""

    def open_writer(role: str, place: ModelSettings | ServerSettings) -> Writer:
        if isinstance(place, ServerSettings):
            run.note(servers={**run.record.get("servers", {}), role: f"{place.url} {place.model}"})
            server = closing.enter_context(open_server(place))
            return ServedWriter(server, sampling, kept_replies(run.cache, place))
        policy = open_to_sample(run, role, place)
        hashed = run.inputs()[role].get("sha256")
        return LocalWriter(policy, str(place.path), sampling, hashed and hashed[:16])

    return open_writer
