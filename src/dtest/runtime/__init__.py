"""What every long-running process needs: a clock, ids, logs, a lifecycle. No domain words."""
