"""The state of a process is put back, or said to be beyond repair: in processes of their own."""

import json
import subprocess
import sys

import pytest

CHANGES = {
    "directory": "os.chdir('/')",
    "environment": "os.environ['JOBQ_TEST'] = '1'",
    "time zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "umask": "os.umask(0)",
    "signal handler": "signal.signal(signal.SIGUSR1, print)",
    "signal mask": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})",
    "alarm": "signal.alarm(100)",
    "interval timer": "signal.setitimer(signal.ITIMER_PROF, 100)",
    "module path": "sys.path.insert(0, '/no/such')",
    "recursion limit": "sys.setrecursionlimit(5000)",
    "socket timeout": "socket.setdefaulttimeout(1)",
    "logging": "logging.disable()",
    "streams": "sys.stdout = sys.stderr = None",
    "encoding": "sys.stdout.reconfigure(encoding='latin-1')",
    "environ itself": "os.environ = {}",
}
BEYOND_REPAIR = {
    "a thread": "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
    "a pending signal": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1});"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    ),
    "a closed stream": "sys.stdout.close()",
    "niceness": "os.nice(5); os.setuid(65534) if os.getuid() == 0 else None",
}
SCRIPT = """
import json, logging, os, signal, socket, sys, threading, time
from jobq.execution.children.process_state import _TRAITS, ProcessState

def state():
    return [trait.read() for trait in _TRAITS], time.tzname, sys.stdout, os.environ

before = state()
kept = ProcessState()
outcomes = {}
for name, change in json.loads(sys.argv[1]).items():
    exec(change)
    outcomes[name] = "restored" if kept.restore() and state() == before else "beyond repair"
os.write(2, json.dumps(outcomes).encode())
os._exit(0)
"""


def outcomes(changes: dict[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(changes)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    found: dict[str, str] = json.loads(done.stderr)
    return found


def test_changes_are_put_back() -> None:
    """One after the other in one process, as the changes of many jobs are."""
    assert outcomes(CHANGES) == dict.fromkeys(CHANGES, "restored")


@pytest.mark.parametrize("name", BEYOND_REPAIR)
def test_a_process_that_can_not_be_restored_says_so(name: str) -> None:
    assert outcomes({name: BEYOND_REPAIR[name]}) == {name: "beyond repair"}
