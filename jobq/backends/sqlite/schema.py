"""The numbers that mark a database as jobq's, and its schema version."""

SCHEMA_VERSION = 9


APPLICATION_ID = 0x6A6F6271
"""The bytes "jobq", at offset 68 of the file."""


FILLING_MARK = 1 << 24
"""Added to the schema version while `jobq migrate` fills a database: no jobq opens that."""
