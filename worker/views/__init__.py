"""What people look at; nothing decides from it."""
