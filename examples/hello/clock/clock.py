"""A background job: it has no port, and writes a line a minute into its log."""

import time

while True:
    print(time.strftime("%H:%M"), flush=True)
    time.sleep(60)
