"""What other programs may ask of a running controller, and the orders that they may give it: a closed table of verbs.

Rule: a question is answered from the state as it is, and an order edits the overrides, on which the plan acts with the
next turn. No verb waits for another, none touches a process but by the engine, and an argument that is not understood
is refused as a whole.
"""
