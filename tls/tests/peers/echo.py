"""Speaks with the echo server of peers.rs by Python's ssl: echo.py PORT CERTIFICATE. Fails when something is wrong."""
import socket
import ssl
import sys

PORT, CERTIFICATE = int(sys.argv[1]), sys.argv[2]
TEXT = bytes(range(256)) * 1024
# Several records at once, and less than the sockets hold. From one thread: a session of OpenSSL's is not made for two.
PIECE = 40_000


def speak(version):
    context = ssl.create_default_context(cafile=CERTIFICATE)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as bare:
        with context.wrap_socket(bare, server_hostname="localhost") as tls:
            assert tls.selected_alpn_protocol() == "http/1.1", tls.selected_alpn_protocol()
            for start in range(0, len(TEXT), PIECE):
                said, heard = TEXT[start : start + PIECE], b""
                tls.sendall(said)
                while len(heard) < len(said):
                    more = tls.recv(65536)
                    assert more, f"the end after {start + len(heard)} bytes"
                    heard += more
                assert heard == said
            # Both sides say that they have finished.
            tls.unwrap()


speak(ssl.TLSVersion.TLSv1_3)
speak(ssl.TLSVersion.TLSv1_2)
