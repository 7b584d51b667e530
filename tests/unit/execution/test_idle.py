from jobq.execution.idle import IdleTimer


def test_it_is_over_after_the_timeout_without_a_job() -> None:
    timer = IdleTimer(10.0)
    assert [timer.is_over(now) for now in (0.0, 9.9, 10.0)] == [False, False, True]
    timer.restart()
    assert [timer.is_over(now) for now in (20.0, 29.0, 30.0)] == [False, False, True]


def test_without_a_timeout_it_is_never_over() -> None:
    timer = IdleTimer(None)
    assert not any(timer.is_over(now) for now in (0.0, 1e9))
