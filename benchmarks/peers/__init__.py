"""Other job queues, each with one task that does nothing: a file each.

``fill(N)`` puts N jobs in line; where the jobs are comes from the variable BENCH_BROKER. Each has two
slots and, where it can, acknowledges a job after the work. How their workers are set up, and what they
do not do, is said in `benchmarks.rivals`.
"""
