"""Identifies a server's caller from verified claims and contexts only; shared by the plugins.

May import: the package's top-level modules (settings, errors, strict_model, web_urls).
Must never import: a plugin or the command line.
"""
