"""The scripts of the Redis backend: their keys, and sending them."""

from collections.abc import Callable
from typing import Any

from tests.contract.driver import Jobs
from tests.contract.redis_keys import check_keys
from tests.contract.test_transfer import furnish
from tests.unit.backends.redis.servers import Open


def commands_of_scripts(client: Any, work: Callable[[], None]) -> list[str]:
    """Return the commands that scripts run during some work, as the server reports them."""
    with client.monitor() as monitor:
        work()
        client.echo("that was all")
        seen = []
        while "that was all" not in (told := monitor.next_command())["command"]:
            if told["client_type"] == "lua":
                seen.append(told["command"])
    return seen


def test_every_key_of_every_script_is_in_the_slot_of_its_jobq(
    open_on: Open, redis_url: str, client: Any
) -> None:
    jobs = Jobs(lambda: open_on(f"{redis_url}?name=mine"))
    seen = commands_of_scripts(client, lambda: furnish(jobs))
    assert len(seen) > 500
    assert [each for each in seen if "{mine}:" not in each and not each.startswith("TIME")] == []
    assert {key.partition(":")[0] for key in client.keys("*")} == {"{mine}"}
    check_keys(jobs.backend)


def test_scripts_that_the_server_has_forgotten_are_sent_again(jobs: Jobs, client: Any) -> None:
    job_id = jobs.add()
    client.script_flush()
    assert jobs.end(jobs.start(job_id))
