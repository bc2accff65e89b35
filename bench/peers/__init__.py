"""Whom we measure against: engines of others behind one small interface, each in its own process.

`PEERS` lists them; `open_peer` starts one on a Graph.  A peer sleeps while it is not measured: its
threads wait passively, and nothing runs between two messages.
"""

from bench.peers.client import PEERS, Peer, PeerError, open_peer

__all__ = ["PEERS", "Peer", "PeerError", "open_peer"]
