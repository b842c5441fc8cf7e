"""The commands that ask a running controller, or give it orders.

Rule: a verb decides nothing. It sends a request over the control socket and prints the answer: a table for people, JSON
or YAML for programs. It starts as fast as it can, so that it imports no more than it needs.
"""
