"""What the download workers share. Being in a folder of its own, it is not searched for job types.

`ytdlp` and `errors` import yt-dlp; the workers import them inside `run`, so that listing the job types, or
adding a job, neither needs yt-dlp nor waits for it.
"""
