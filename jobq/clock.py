"""The only reader of wall time. Nothing else, and no SQL, asks what time it is."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)
