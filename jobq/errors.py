"""The errors that jobq raises on purpose, each with the exit code of the command.

::

    JobqError                 1   failed
    ├── UsageError            2   invalid input: the caller can correct it
    │   ├── ArgsError             the job type does not take these arguments
    │   ├── ConfigError           a value in jobq.toml or a JOBQ_* variable is invalid
    │   ├── KeyReusedError        a key was given to `add_once` with another job before
    │   └── WorkerLoadError       a worker file does not import, or clashes with another
    ├── NotFound              3   no such job or queue
    ├── WrongState            4   the job's state does not allow it
    ├── LogDirectoryError     1   the directory of all logs can't be used
    └── DatabaseError         5   the database can't be used
        ├── DatabaseDamagedError      it is damaged, or not a jobq database
        ├── DatabaseNewerError        a newer jobq wrote it
        ├── DatabaseReadOnlyError     no permission to write
        ├── HalfFilledError           a `jobq migrate` into it did not finish
        └── DatabaseUnavailableError  not for now: a supervisor keeps trying
            ├── DatabaseLockedError       another process keeps it locked
            ├── DatabaseAwayError         no server carries out commands
            │   ├── DatabaseStoppedError      none is running, or it is still starting
            │   └── DatabaseUnreachableError  no answer here; other clients may get one
            │       └── DatabaseRefusesError      the server refuses to let us in
            └── DiskFullError             no room to write
"""

from collections.abc import Collection


class JobqError(Exception):
    """The root of the tree. Its message is one line that says what, where and what to do."""

    exit_code = 1


class UsageError(JobqError):
    exit_code = 2


class ArgsError(UsageError):
    """Arguments that do not fit the job type; the message names each one."""


class ConfigError(UsageError):
    """An invalid setting; the message names file, line, key and what was expected."""


class KeyReusedError(UsageError):
    """A key that another job was added with."""


class WorkerLoadError(UsageError):
    """A worker file that could not be loaded."""


class NotFound(JobqError):
    exit_code = 3


class WrongState(JobqError):
    exit_code = 4


class LogDirectoryError(JobqError):
    """The directory of all logs can't be used; the message says why."""


class DatabaseError(JobqError):
    exit_code = 5


class DatabaseDamagedError(DatabaseError):
    pass


class DatabaseNewerError(DatabaseError):
    pass


class DatabaseReadOnlyError(DatabaseError):
    pass


class HalfFilledError(DatabaseError):
    pass


class DatabaseUnavailableError(DatabaseError):
    """The database can't be used for now; it may be again without any change on our side."""


class DatabaseLockedError(DatabaseUnavailableError):
    pass


class OlderSupervisorError(DatabaseLockedError):
    """A database to migrate is used by supervisors of an older version on this host."""

    def __init__(self, database: str, owners: Collection[str]) -> None:
        super().__init__(
            f"{database}: a supervisor of an older jobq uses it ({', '.join(sorted(owners))}): "
            "stop it (jobq down, or Ctrl-C), then try again: the database will be migrated"
        )
        self.owners = owners


class DatabaseAwayError(DatabaseUnavailableError):
    """No server carries out commands; the last command sent may still have taken effect."""


class DatabaseStoppedError(DatabaseAwayError):
    """The host reports that no server is running, or that it is starting: the same to every client."""


class DatabaseUnreachableError(DatabaseAwayError):
    """No server answers this client. Others may reach it, and take over what this one holds."""


class DatabaseRefusesError(DatabaseUnreachableError):
    """The server refuses to let us in. If it did before, it may again."""


class DiskFullError(DatabaseUnavailableError):
    pass
