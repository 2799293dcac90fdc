"""The command line: one module for each noun, loaded only when its command runs."""
