from jobq.diagnostics.doctor.finding import Level, if_any, warning

FOUND = warning("links", "/logs", "symbolic links", "delete them")


def test_names_follow_the_message() -> None:
    found = if_any(["a", "b"], FOUND, otherwise="no symbolic links")
    assert (found.level, found.message) == (Level.WARNING, "symbolic links: a, b")
    assert found.remedy == "delete them"


def test_without_names_all_is_well() -> None:
    found = if_any([], FOUND, otherwise="no symbolic links")
    assert (found.level, found.check, found.where) == (Level.OK, "links", "/logs")
    assert (found.message, found.remedy, found.fix) == ("no symbolic links", "", None)
