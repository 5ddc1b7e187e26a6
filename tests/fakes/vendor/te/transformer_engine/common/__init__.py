"""What frameworks have in common."""
