"""Owners of log directories, without a store."""

from jobq.logs.owner import Owner


def owner(job_id: int, store: str = "store", *, added: int = 1, unmarked: bool = False) -> Owner:
    """A job of a store, added at that time in microseconds."""
    return Owner(job_id, f"{store}-{added}", unmarked)
