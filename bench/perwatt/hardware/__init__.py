"""What hardware is: facts about this machine, and published ones of chips. Nothing here imports torch."""
