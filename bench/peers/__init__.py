"""Whom we measure against: engines of others behind one small interface, each in its own process.

`PEERS` lists them; `open_peer` starts one on a Graph, `PeerProcesses` keeps them for the next.  A
peer sleeps while it is not measured: its threads wait passively, and nothing runs between two
messages.
"""

from bench.peers.client import PEERS, Peer, PeerError, PeerProcesses, open_peer

__all__ = ["PEERS", "Peer", "PeerError", "PeerProcesses", "open_peer"]
