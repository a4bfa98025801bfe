"""`make bench`: how fast the daemon is, beside the physical limits of the same machine in the same run.

Machines differ and are noisy, so each figure stands beside a floor (a tiny server that does only what cannot
be left out) and is quoted as a ratio; the two alternate. Uses loopback only, ends by itself.
"""
