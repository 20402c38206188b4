"""What somebody else on the cluster may try: ``python stranger.py ADDRESS [PEM ...]`` on a node.

Prints whether clients without credentials, and with each of the PEM files, are let in; and which
ports of this node answer a browser from outside.
"""

import socket
import subprocess
import sys

from distributed import Client, Security


def try_to_enter(address, pem=None, timeout_s=2):
    """Tell whether a client may run something; one that is refused tries on until the timeout."""
    files = {} if pem is None else dict.fromkeys(("tls_ca_file", "tls_client_cert"), pem)
    security = Security(**files, require_encryption=bool(files))
    try:
        with Client(address, security=security, timeout=timeout_s) as client:
            return "in" if client.submit(abs, -1, pure=False).result(timeout=60) == 1 else "?"
    except Exception:
        return "refused"


def ports_that_answer():
    """Ports of this node, on other addresses than its loopback, that speak plain HTTP."""
    listed = subprocess.check_output(["ss", "-ltnH"], text=True)
    own = socket.gethostbyname(socket.gethostname())
    answering = []
    for address, _, port in (line.split()[3].rpartition(":") for line in listed.splitlines()):
        if address in ("127.0.0.1", "[::1]"):
            continue
        try:
            with socket.create_connection((own, int(port)), timeout=2) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                if connection.recv(5) == b"HTTP/":
                    answering.append(port)
        except OSError:
            continue
    return answering


if __name__ == "__main__":
    where, *credentials = sys.argv[1:]
    plain = where.replace("tls://", "tcp://")
    print("plain", try_to_enter(plain))
    for number, pem in enumerate(credentials):
        is_last = number == len(credentials) - 1
        print(number, try_to_enter(where, pem, timeout_s=20 if is_last else 2))
    print("answering", *ports_that_answer())
