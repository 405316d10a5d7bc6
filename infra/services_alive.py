"""Whether the Prefect services of this container are at work; exit code 0 if so.

They serve no port, but write a heartbeat into Redis every two seconds, under the name of their
queue; the one named `prefect-server` is the API's own.
"""

import os
import socket
import sys
from time import time

from redis import Redis

with Redis.from_url(os.environ["PREFECT_SERVER_DOCKET_URL"], socket_timeout=4) as redis:
    beats = redis.zrange("prefect:workers", 0, -1, withscores=True)
here = f"{socket.gethostname()}#"
alive = any(name.decode().startswith(here) and time() - at < 20 for name, at in beats)
sys.exit(not alive)
