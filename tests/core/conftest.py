"""Hypothesis on a machine that may be busy: an example takes the time that it takes."""

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")
