"""Wake-ups that come from a Redis server."""

import select

from jobq.backends.messages import ClaimRequest, Report
from jobq.models import JobStatus
from tests.contract.driver import LEASE, Jobs, new_job
from tests.support.tcp_proxy import TcpProxy
from tests.unit.backends.redis.servers import Open


def test_a_listener_whose_connection_was_lost_listens_again(
    open_on: Open, redis_url: str, jobs: Jobs
) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    with TcpProxy(int(port)) as proxy:
        backend = open_on(redis_url.replace(f":{port}", f":{proxy.port}"))
        listener = backend.supervisors.listen("one")
        proxy.cut()
        assert select.select([listener], [], [], 20)[0]
        listener.drain()
        backend.heartbeat("one", LEASE, jobs.now)
        jobs.add()
        assert select.select([listener], [], [], 20)[0]
        listener.drain()
        assert not select.select([listener], [], [], 0)[0]
        listener.close()
        backend.close()


def test_a_place_in_a_limited_queue_wakes_others_if_who_frees_it_does_not_take_it(
    jobs: Jobs,
) -> None:
    jobs.limit("narrow", max_concurrent=1)
    jobs.insert_ids(*[new_job(queue="narrow")] * 3)
    listener = jobs.backend.supervisors.listen("other")
    (claim,) = jobs.claim()
    for limit, wakes in ((1, False), (0, True)):
        listener.drain()
        request = ClaimRequest(owner="one", limit=limit, lease=LEASE)
        report = Report(endings=[jobs.ending(claim, JobStatus.COMPLETED)])
        claims = jobs.backend.exchange(report, request, jobs.now).claims
        jobs.backend.counts()  # answered after whoever was woken
        assert bool(select.select([listener], [], [], 0)[0]) is wakes
        (claim,) = claims or [claim]
    listener.close()
