"""The order of a scope's calls: the decisions, apart from input and output.

May import ``format``. Never imports ``store`` or ``backends``, and does no input or output.
"""
