"""The shipped configuration files; a wheel carries them as ``lnrnn.conf``."""
