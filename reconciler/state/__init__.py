"""The state directory: where it is, who has it, and what a controller remembers in it.

Rule: one controller for each state directory, and one for each spec directory, by locks of the kernel, which go with
the process that holds them. What is written is whole or not there at all; what cannot be read is put aside and told.
"""
