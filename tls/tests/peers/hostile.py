"""Sends records that no client sends, by tlslite-ng: hostile.py PORT CERTIFICATE RECORDS. Fails when one is not refused."""
import socket
import sys

from tlslite.api import HandshakeSettings, TLSAbruptCloseError, TLSConnection, TLSRemoteAlert
from tlslite.constants import AlertDescription as Alert
from tlslite.constants import ContentType
from tlslite.messages import Message

PORT, RECORDS = int(sys.argv[1]), sys.argv[3]


def meet(version):
    bare = socket.create_connection(("127.0.0.1", PORT), timeout=60)
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = version
    tls = TLSConnection(bare)
    tls.handshakeClientCert(settings=settings, serverName="localhost")
    assert tls.version == version, tls.version
    tls.closeSocket = True
    return tls


def record(tls, kind, data):
    """Seals and sends one record, whatever is in it."""
    for _ in tls._recordLayer.sendRecord(Message(kind, bytearray(data))):
        pass


def echoes(tls, text=b"hello"):
    tls.sendall(text)
    heard = b""
    while len(heard) < len(text):
        piece = tls.recv(65536)
        assert piece, "the end"
        heard += piece
    assert heard == text, heard


def refused(tls, *alerts):
    try:
        while tls.recv(1000):
            pass
    except TLSRemoteAlert as alert:
        assert alert.description in alerts or RECORDS == "rustls", alert
    except TLSAbruptCloseError:
        # rustls has no word for a flood.
        assert RECORDS == "rustls"
    else:
        raise AssertionError("it was not refused")


def regular(tls):
    echoes(tls)
    echoes(tls, b"x" * 40_000)
    if tls.version == (3, 4):
        for asks in (0, 1):
            for _ in tls.send_keyupdate_request(asks):
                pass
            echoes(tls, b"with new keys")
    tls.close()


def wrong_tag(tls):
    echoes(tls)
    layer, seal = tls._recordLayer, tls._recordLayer._encryptThenSeal

    def spoilt(data, kind):
        sealed = seal(data, kind)
        sealed[-1] ^= 1
        return sealed

    layer._encryptThenSeal = spoilt
    record(tls, ContentType.application_data, b"hello")
    refused(tls, Alert.bad_record_mac)


def replayed(tls):
    echoes(tls)
    state = tls._recordLayer._writeState
    record(tls, ContentType.application_data, b"")
    state.seqnum -= 1
    record(tls, ContentType.application_data, b"")
    refused(tls, Alert.bad_record_mac)


def over_long(tls):
    record(tls, ContentType.application_data, b"x" * (2**14 + 1))
    refused(tls, Alert.record_overflow)


def empty_flood(tls):
    for _ in range(40):
        record(tls, ContentType.application_data, b"")
    refused(tls, Alert.unexpected_message)


def change_cipher_spec(tls):
    # tlslite seals it in TLS 1.2 and leaves it bare in 1.3.
    record(tls, ContentType.change_cipher_spec, b"\x01")
    refused(tls, Alert.unexpected_message)


def ticket_of_a_client(tls):
    record(tls, ContentType.handshake, b"\x04\x00\x00\x01\x00")
    refused(tls, Alert.unexpected_message)


def unknown_type(tls):
    record(tls, 77, b"\x01")
    refused(tls, Alert.unexpected_message, Alert.decode_error)


def says_goodbye(tls):
    record(tls, ContentType.application_data, b"last")
    record(tls, ContentType.alert, b"\x01\x00")
    heard = b""
    while True:
        piece = tls.recv(1000)
        if not piece:
            break
        heard += piece
    assert heard == b"last", heard


CASES = [
    regular, wrong_tag, replayed, over_long, empty_flood, change_cipher_spec, ticket_of_a_client, unknown_type, says_goodbye
]
for case in CASES:
    for version in ((3, 4), (3, 3)):
        tls = meet(version)
        try:
            case(tls)
        except Exception as error:
            raise AssertionError(f"{case.__name__} with {version}") from error
        finally:
            tls.sock.close()
