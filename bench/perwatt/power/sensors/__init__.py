"""Every sensor, one file each. Adding one is a new file here, or an entry point of another package."""
