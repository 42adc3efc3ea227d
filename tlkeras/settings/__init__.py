"""What a person can set, what it allows, and the strategies it names."""
