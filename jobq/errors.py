"""Everything that jobq raises on purpose, with the exit code that the command leaves with.

::

    JobqError                 1   failed
    ├── UsageError            2   invalid input: the caller can mend it
    │   ├── ArgsError             arguments that the job type does not take
    │   ├── ConfigError           a jobq.toml or JOBQ_* variable that is wrong
    │   └── WorkerLoadError       a worker file that does not import, or clashes with another
    ├── NotFound              3   no such job or queue
    ├── WrongState            4   refused in the state that the job is in
    ├── LogDirectoryError     1   the directory of all logs can't be used
    └── DatabaseError         5   the database can't be used
        ├── DatabaseDamagedError      it is not a jobq database, or no longer one
        ├── DatabaseNewerError        a newer jobq wrote it
        ├── DatabaseReadOnlyError     no permission to write
        ├── HalfFilledError           `jobq migrate` has not come to its end there
        └── DatabaseUnavailableError  not just now: who runs jobs goes on trying
            ├── DatabaseLockedError       another process keeps it locked
            ├── DatabaseAwayError         no server does what it is asked for
            │   ├── DatabaseStoppedError      none runs there, or it is still starting
            │   └── DatabaseUnreachableError  there is no answer; others may get one
            │       └── DatabaseRefusesError      the server does not let us in
            └── DiskFullError             no room to write
"""


class JobqError(Exception):
    """The root of the tree. Its message is one line that says what, where and what to do."""

    exit_code = 1


class UsageError(JobqError):
    exit_code = 2


class ArgsError(UsageError):
    """Arguments that do not fit the job type; the message names each one."""


class ConfigError(UsageError):
    """A setting that can't be read; the message names file, line, key and what was expected."""


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
    """The database can't be used just now, and may be before long, without anybody's doing."""


class DatabaseLockedError(DatabaseUnavailableError):
    pass


class DatabaseAwayError(DatabaseUnavailableError):
    """No server does what it is asked for; what was asked for last may have been done."""


class DatabaseStoppedError(DatabaseAwayError):
    """Its machine says that no server runs there, or the server that it is starting: so to all."""


class DatabaseUnreachableError(DatabaseAwayError):
    """No server answers here. Others may get through, and take over what this one holds."""


class DatabaseRefusesError(DatabaseUnreachableError):
    """The server does not let us in. Where it did before, it may again."""


class DiskFullError(DatabaseUnavailableError):
    pass
