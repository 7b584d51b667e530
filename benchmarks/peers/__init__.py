"""Other job queues, each with one task that does nothing: a file each.

``fill(N)`` puts N jobs in line; where the jobs are comes from the variable BENCH_BROKER. Each has two
slots, the quickest configuration that its documentation has for such jobs, and, where it can, acknowledges a job after the work. What else they do not do is said in `benchmarks.rivals`.
"""
