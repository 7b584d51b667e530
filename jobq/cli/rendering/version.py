"""The installed version of jobq."""


def installed() -> str:
    """Return the installed version of jobq."""
    from importlib import metadata  # 15 ms that only this verb takes

    try:
        return metadata.version("jobq")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
