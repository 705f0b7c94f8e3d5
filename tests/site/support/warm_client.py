"""Has a command run by `tests.site.support.warm`: ``warm_client.py SOCKET ARGUMENT...``."""

import json
import os
import socket
import sys

asked = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
    answer = connection.recv(1)
sys.exit(answer[0] if answer else 1)
