"""The control socket: how other programs ask a running controller, and give it orders.

Rule: whatever a client does, it costs the controller a bounded amount and the other clients nothing. What crosses the
socket is data: no name of ours is looked up by a text of theirs.
"""
