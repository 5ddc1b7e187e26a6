"""What hardware is: facts about this machine. Nothing here imports torch."""
