"""Measurements of jobq, as ratios to peers and floors measured in the same run: ``make bench``.

Machines differ and are noisy: so the sides of a comparison take turns (A B A B …), medians are
compared, and the ratio has the target.
"""
