"""The version of jobq that is installed."""


def installed() -> str:
    """The version of jobq that is installed."""
    from importlib import metadata  # 15 ms that only this verb takes

    try:
        return metadata.version("jobq")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
