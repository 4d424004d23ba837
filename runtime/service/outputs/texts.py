"""Formats times and events."""

from dataclasses import asdict
from datetime import datetime, timezone

from runtime.service.results import Event


def utc_text(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601, such as 2026-11-28T13:05:00.250Z."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_fields(event: Event) -> dict[str, object]:
    """Return an event's JSON object: camera, rule, kind, utc, id, what, count, clip."""
    fields: dict[str, object] = asdict(event)
    del fields["time"]
    return {"utc": utc_text(event.time)} | fields
