"""Code of the `cleanup` worker. Not searched for job types, since it is in a subfolder."""
