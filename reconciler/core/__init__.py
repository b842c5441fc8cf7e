"""Floor 0: data and decisions.

Rule of this room: pure. Nothing here reads a clock, a file or a process, starts a thread or writes a log; time comes in
as an argument (seconds, monotonic), the world comes in as observations, and what should happen goes out as a plan.
"""
