"""What operators run on a store: gc, fsck, rekey, usage, migrate, doctor.

May import ``upload``, ``download`` and what is below them. Never imports ``repository``: logging
and reading need nothing from here.
"""
