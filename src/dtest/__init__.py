"""dtest: tests and benchmarks in parallel on machines of every kind, event-sourced over NATS."""

__version__ = "0.1.0"
