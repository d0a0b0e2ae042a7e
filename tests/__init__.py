"""A package by name, so that no package called `tests` of somebody else is found instead."""
