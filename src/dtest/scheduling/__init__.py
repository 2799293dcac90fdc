"""Which task goes to which worker, in what order, and why one waits. Pure."""
