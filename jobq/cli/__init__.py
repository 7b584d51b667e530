"""The command line: one module a noun. Each parses, asks `JobQueue` once, and shows the answer."""
