"""Stand-ins for hardware and third-party packages, made from documents and as strict as they are."""
