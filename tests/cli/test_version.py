from tests.support.cli_runner import Cli


def test_version(cli: Cli) -> None:
    lines = cli("version").lines
    assert [line.split()[0] for line in lines] == ["jobq", "Python", "SQLite"]
    document = cli("version", "--json").json
    assert list(document) == ["jobq", "python", "sqlite"]
    assert [line.split(maxsplit=1)[1] for line in lines] == list(document.values())
