"""Code shared by the download workers. Not searched for job types, since it is in a subfolder.

`ytdlp` and `errors` import yt-dlp; the workers import them inside `run`, so that listing job types
or adding a job neither needs yt-dlp nor waits for its import.
"""
