"""Composition roots: the only place where adapters meet deciders, one per process."""
