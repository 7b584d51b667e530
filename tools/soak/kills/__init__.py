"""Kills: a process is killed before each of its steps, one run for each, and what is left is checked.

    python -m tools.soak.kills [OPERATION…]        (all of them without a name)

A step is an SQL statement, or something asked of the operating system that changes a file or a
process. Nothing of this is in the shipped code: statements are seen by SQLite's trace callback,
system calls by Python's audit hook.
"""
