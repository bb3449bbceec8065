"""A child that dies of seed 1 and hangs at seed 2: what a campaign must survive."""

import json
import os
import signal
import sys
import time

for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(json.dumps({"seed": seed, "file": "m.tar", "kinds": []}), flush=True)
    if seed == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed == 2:
        time.sleep(60)
    print(json.dumps({"faults": []}), flush=True)
