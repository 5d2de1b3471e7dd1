"""Speaks with the echo server of peers.rs by Python's ssl: echo.py PORT CERTIFICATE. Fails when something is wrong."""
import socket
import ssl
import sys
import threading

PORT, CERTIFICATE = int(sys.argv[1]), sys.argv[2]
TEXT = bytes(range(256)) * 1024


def speak(version):
    context = ssl.create_default_context(cafile=CERTIFICATE)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as bare:
        with context.wrap_socket(bare, server_hostname="localhost") as tls:
            assert tls.selected_alpn_protocol() == "http/1.1", tls.selected_alpn_protocol()
            writer = threading.Thread(target=tls.sendall, args=(TEXT,))
            writer.start()
            heard = b""
            while len(heard) < len(TEXT):
                piece = tls.recv(65536)
                assert piece, f"the end after {len(heard)} bytes"
                heard += piece
            writer.join()
            assert heard == TEXT
            # Both sides say that they have finished.
            tls.unwrap()


speak(ssl.TLSVersion.TLSv1_3)
speak(ssl.TLSVersion.TLSv1_2)
