"""What ``jobq init`` writes."""
