"""The accuracy gate: what must hold before and after a time may be believed (docs/method.md, Accuracy gate)."""
