"""A project on disk, and the real command in real processes."""

from tests.support.project import project

__all__ = ["project"]
