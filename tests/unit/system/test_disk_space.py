from pathlib import Path

from jobq.config.loader import load_settings
from jobq.system.disk_space import directories, shortage


def test_the_disk_of_a_database_is_that_which_its_link_leads_to(
    project: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (project / "link.db").symlink_to(elsewhere / "jobq.db")
    (project / "jobq.toml").write_text('database = "link.db"')
    assert directories(load_settings(project / "jobq.toml")) == (project / "logs", elsewhere)


def test_the_least_that_is_left_free_is_what_is_set(project: Path) -> None:
    file = project / "jobq.toml"
    assert shortage(load_settings(file)) is None
    file.write_text('[logs]\nmin_free = "900TB"')
    short = shortage(load_settings(file))
    assert short is not None
    assert str(short).endswith(f"free at {project / 'logs'}, and [logs] min_free is 900 TB")
    file.write_text('[logs]\nmin_free = "off"')
    assert shortage(load_settings(file)) is None
