"""What a run came to: one verdict for each test, and the forms that people and programs read."""
