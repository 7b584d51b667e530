"""Other job queues, each with one task that does nothing: a file each.

``fill(N)`` enqueues N jobs; the variable BENCH_BROKER names the store. Each has two slots and, if it
can, acknowledges a job after the work. `benchmarks.rivals` says how their workers are set up, and what
they do not do.
"""
