"""One module for each group of libraries whose reads and writes the audit hook cannot see.

May import: the rest of capture and what it may import.
Must never import: the libraries themselves, except inside functions.
"""
