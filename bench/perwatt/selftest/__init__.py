"""``perwatt kernels selftest``: every kernel from tiny to full size on a chip that nobody has run it on before.

``plan`` lists the tests, ``child`` does them in a process that may hang or die, ``process`` is the other end of it,
``session`` goes through them, and ``bundle`` leaves what is sent back.
"""
