"""What people ask, in DuckDB: a read model that the journal can rebuild at any time."""
