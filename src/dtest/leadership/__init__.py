"""The leader: elected by the journal, fenced by its epoch, and checkable afterwards."""
