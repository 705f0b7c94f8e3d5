"""Takes a model version from one MLflow server to another, with its run, its model and its bytes.

``record`` is pure: what is taken along, under which tags. ``reading`` reads it from one server,
``writing`` writes it to the other, ``content`` moves the bytes and compares digests, ``journey``
puts the steps in order. May import the plugins and the package's shared modules; never imports
``cli`` or ``review``.
"""
