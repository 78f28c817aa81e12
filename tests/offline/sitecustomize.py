"""Loaded by every Python that the tests start: it refuses to connect to anything but this machine."""

import socket

LOCAL = ("127.", "::1", "localhost")


def _guarded(connect):
    def guarded(self, address):
        reaches_out = self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM
        if reaches_out and not str(address[0]).startswith(LOCAL):
            raise OSError(f"The tests allow no connection to {address[0]}.")
        return connect(self, address)

    return guarded


for _name in ("connect", "connect_ex"):
    setattr(socket.socket, _name, _guarded(getattr(socket.socket, _name)))
