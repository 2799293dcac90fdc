"""Where work runs: the agent, its keeper of processes, its probes and its simulated sibling."""
