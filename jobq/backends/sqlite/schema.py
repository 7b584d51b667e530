"""The numbers by which a database is known as jobq's, and by its version."""

SCHEMA_VERSION = 5


APPLICATION_ID = 0x6A6F6271
"""The bytes "jobq", at offset 68 of the file."""


FILLING = 1 << 24
"""Added to the schema's version while `jobq migrate` fills a database: no jobq works with that."""
