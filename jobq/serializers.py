"""The JSON documents of the command line. Scripts depend on them: fields are only added."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from jobq.config.settings import Serve, Settings
from jobq.models import (
    Attempt,
    Condition,
    Job,
    JobStatus,
    JsonObject,
    Parent,
    Progress,
    Queue,
    Schedule,
    SupervisorInfo,
)
from jobq.redaction import Redaction, ShownJob
from jobq.units import format_moment

_MOMENTS = ("created_at", "run_at", "started_at", "finished_at")


def job_document(job: ShownJob, log_dir: Path) -> JsonObject:
    """Return a job; ``log_dir`` is the job's own."""
    return {**job_fields(job), "log_dir": str(log_dir)}


def job_fields(job: ShownJob) -> JsonObject:
    """Return the fields of a job that documents of every kind have."""
    progress = job.progress
    return {
        "id": job.id,
        "type": job.type,
        "name": job.name,
        "status": job.status.value,
        "queue": job.queue,
        "priority": job.priority,
        "args": job.args,
        "tags": dict(job.tags),
        "unique_key": job.unique_key,
        "parents": [{"id": p.id, "condition": p.condition.value} for p in job.parents],
        "added_by": job.added_by,
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "timeout": job.timeout,
        "created_at": format_moment(job.created_at),
        "run_at": format_moment(job.run_at),
        "started_at": format_moment(job.started_at),
        "finished_at": format_moment(job.finished_at),
        "progress": progress
        and {"done": progress.done, "total": progress.total, "message": progress.message},
        "exit_code": job.exit_code,
        "signal": job.signal,
        "error": job.error,
        "signature": job.signature,
        "reason": job.reason,
        "result": job.result,
    }


def attempt_document(attempt: Attempt) -> JsonObject:
    """Return one entry of a job's ``history``."""
    return {
        "attempt": attempt.attempt,
        "supervisor": attempt.supervisor,
        "pid": attempt.pid,
        "started_at": format_moment(attempt.started_at),
        "ended_at": format_moment(attempt.ended_at),
        "outcome": attempt.outcome and attempt.outcome.value,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error": attempt.error,
        "max_rss_bytes": attempt.max_rss_bytes,
        "cpu_seconds": attempt.cpu_seconds,
    }


def queue_document(queue: Queue, counts: dict[JobStatus, int]) -> JsonObject:
    """Return a queue with its counts."""
    return {
        "name": queue.name,
        "description": queue.description,
        "max_concurrent": queue.max_concurrent,
        "priority": queue.priority,
        "paused": queue.paused,
        "rate": None if queue.rate is None else str(queue.rate),
        "timeout": queue.timeout,
        "max_retries": queue.max_retries,
        "counts": {status.value: number for status, number in counts.items()},
    }


def schedule_document(schedule: Schedule, words: str, runs: Sequence[datetime]) -> JsonObject:
    """Return a schedule, its cron expression in words, and its next runs."""
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "in_words": words,
        "tz": schedule.tz,
        "type": schedule.type,
        "args": schedule.args,
        "queue": schedule.queue,
        "priority": schedule.priority,
        "tags": dict(schedule.tags),
        "timeout": schedule.timeout,
        "max_retries": schedule.max_retries,
        "retry_base": schedule.retry_base,
        "missed": schedule.missed.value,
        "overlap": schedule.overlap.value,
        "paused": schedule.paused,
        "next_runs": [format_moment(run) for run in runs],
        "created_at": format_moment(schedule.created_at),
        "last_run_at": format_moment(schedule.last_at),
        "last_job_id": schedule.last_job_id,
        "last_error": schedule.last_error,
    }


def supervisor_document(supervisor: SupervisorInfo) -> JsonObject:
    """Return a registered supervisor."""
    return {
        "id": supervisor.id,
        "host": supervisor.host,
        "pid": supervisor.pid,
        "slots": supervisor.slots,
        "queues": None if supervisor.queues is None else list(supervisor.queues),
        "types": list(supervisor.types),
        "started_at": format_moment(supervisor.started_at),
        "heartbeat_at": format_moment(supervisor.heartbeat_at),
    }


def type_document(name: str, description: str, source: str, schema: Any) -> JsonObject:
    """Return a job type and the schema of its arguments."""
    return {"type": name, "description": description, "source": source, "args_schema": schema}


def settings_document(settings: Settings) -> JsonObject:
    """Return the settings in effect, shaped like jobq.toml; durations in seconds."""
    retry, retention, timeouts = settings.retry, settings.retention, settings.timeouts
    hide = Redaction(settings.redactor)
    return {
        "database": str(settings.database),
        "log_dir": str(settings.log_dir),
        "concurrency": settings.concurrency,
        "backend": settings.backend_shown,
        "work": {"autostart": settings.autostart},
        "workers": {"paths": [str(path) for path in settings.worker_paths]},
        "retry": {
            "max_retries": settings.max_retries,
            "base": settings.retry_base,
            "jitter": retry.jitter,
            "max_crashes": retry.max_crashes,
        },
        "timeouts": {
            "low": timeouts.low,
            "normal": timeouts.normal,
            "high": timeouts.high,
            "critical": timeouts.critical,
            "types": dict(timeouts.types),
        },
        "retention": asdict(retention),
        "logs": {
            "max_bytes": settings.log_max_bytes,
            "min_free": "auto" if settings.min_free is None else settings.min_free,
            "ship_max_bytes": settings.ship_max_bytes,
            "ship_ttl": settings.ship_ttl,
        },
        "lease": {"seconds": settings.lease, "grace": settings.grace},
        "env": {"capture": list(settings.env_capture)},
        "redact": {"patterns": list(settings.redactor.patterns)},
        "hooks": {"on_finish": [hide.value(argv) for argv in settings.on_finish]},
        "serve": _serve_document(settings.serve),
        "queues": {name: _limits_document(queue) for name, queue in settings.queues.items()},
    }


def _serve_document(serve: Serve) -> JsonObject:
    return {
        **asdict(serve),
        **{key: str(getattr(serve, key) or "") for key in ("socket", "tls_cert", "tls_key")},
        "hosts": list(serve.hosts),
        "trusted_proxies": list(serve.trusted_proxies),
        "submit": list(serve.submit),
        "submit_env": list(serve.submit_env),
        "submit_cwd": [str(path) for path in serve.submit_cwd],
        "rate": str(serve.rate),
    }


def _limits_document(queue: Queue) -> JsonObject:
    return {
        "description": queue.description,
        "max_concurrent": queue.max_concurrent,
        "priority": queue.priority,
        "rate": None if queue.rate is None else str(queue.rate),
        "timeout": queue.timeout,
        "max_retries": queue.max_retries,
    }


def to_job(document: Mapping[str, Any]) -> Job:
    """Return a job of its document."""
    fields = {name: document[name] for name in Job.__dataclass_fields__ if name in document}
    for name in _MOMENTS:
        fields[name] = fields[name] and datetime.fromisoformat(fields[name])
    progress = fields["progress"]
    fields["progress"] = progress and Progress(**{n: progress[n] for n in Progress._fields})
    fields["parents"] = tuple(Parent(p["id"], Condition(p["condition"])) for p in fields["parents"])
    return Job(**{**fields, "status": JobStatus(fields["status"])})
