"""What a store does on its worst day: faults under load, measured and drawn."""
