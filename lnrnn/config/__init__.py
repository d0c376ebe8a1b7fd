"""From files and overrides to a checked configuration, and from its nodes to objects."""
